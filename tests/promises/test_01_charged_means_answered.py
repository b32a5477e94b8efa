"""Promise 1: charged means answered, answered means recorded. Promise 5: what is in doubt is the customer's.

Whatever happens to the commit, the caller and the process: the calls that cost something in the end are
exactly those that somebody was answered, or those that can be asked for again. The scenes are
`marketplace/proving/charged.py` and `doubt.py`.
"""

from uuid import UUID

import pytest

from billing.models import Account, Budget, Price
from marketplace.proving.charged import check_charged_is_answered, live_with_broken_commits
from marketplace.proving.doubt import check_killed, kill_after
from marketplace.proving.findings import Broken
from tests.billing.facts import Recorder

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize("seed", range(3))
def test_whatever_becomes_of_commits_and_callers_only_the_answered_pay(account: Account, price: Price, seed: int) -> None:
    print(f"seed {seed}")

    lived = live_with_broken_commits(account, price, seed=seed)

    check_charged_is_answered(account, lived.answered)


def test_the_check_would_find_a_charge_without_an_answer_and_an_answer_without_a_charge(account: Account, price: Price) -> None:
    # The negative control of the promise's own check.
    event = Recorder(account).record(price)
    Budget.objects.update(leased_nanos=0)

    with pytest.raises(Broken, match="that nobody was answered"):
        check_charged_is_answered(account, [])
    with pytest.raises(Broken, match="that are not on record"):
        check_charged_is_answered(account, [event.pk, UUID(int=1)])


@pytest.mark.parametrize("after_replies", [1, 40, 300])
def test_after_kill_9_every_reply_has_its_event_and_every_event_a_reply_or_a_refund(
    account: Account, price: Price, after_replies: int
) -> None:
    killed = kill_after(account, price, replies=after_replies)

    check_killed(account, price, killed)
