"""Promises 6 and 12: 0 double charges, 0 lost payments, whatever Stripe, the network and the webhooks do.

The lives are `marketplace/proving/provider_events.py`.
"""

import pytest

from billing.ids import uuid7
from billing.models import AutoRecharge, Budget, OutboxRow
from billing.providers.fake.world import Fault
from marketplace.proving.findings import Broken
from marketplace.proving.provider_events import Life, check, forge, live, tell_all_again
from tests.till import HANG_S, Till

SEEDS = range(12)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.django_db
@pytest.mark.parametrize("seed", SEEDS)
def test_no_payment_is_doubled_or_lost_under_faults(till: Till, seed: int) -> None:
    print(f"seed {seed}")

    life = live(till, seed=seed)

    check(life)


@pytest.mark.django_db
def test_what_is_told_again_or_forged_changes_nothing(till: Till) -> None:
    life = live(till, seed=3)

    assert tell_all_again(life) > 2
    assert forge(life) > 6

    check(life)


@pytest.mark.django_db
def test_the_check_would_find_a_lost_payment_and_a_double_one(till: Till) -> None:
    # The negative control: without idempotency keys, the same fault charges twice, and the check says so.
    life = Life(till, 0)
    till.world.faults.probability = 0
    till.top_up(life.account)
    check(life)
    Budget.objects.filter(account=life.account).update(limit_nanos=1)
    with pytest.raises(Broken):
        check(life)

    till.pay(till.start(life.account))  # Nobody tells us.
    with pytest.raises(Broken, match="lost"):
        check(life)


def test_without_its_key_a_lost_answer_charges_twice(till: Till, monkeypatch: pytest.MonkeyPatch, db: None) -> None:
    # The control of the keys themselves: each attempt under a key of its own.
    monkeypatch.setattr(OutboxRow, "idempotency_key", property(lambda row: f"fresh-{uuid7()}"))
    life = Life(till, 0)
    till.world.faults.probability = 0
    till.top_up(life.account)
    Budget.objects.filter(account=life.account).update(spent_nanos=0)
    till.world.faults.waiting.append(Fault(kind="timeout_after", match="POST /v1/payment_intents", seconds=HANG_S))
    life.recharge()
    AutoRecharge.objects.update(is_on=False)
    till.make_due()
    till.sweep()
    till.tell()

    with pytest.raises(Broken):
        check(life)
