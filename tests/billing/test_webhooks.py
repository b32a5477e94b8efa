"""The inbox: what comes in, how often, in which order, and what it may change."""

import random
import time
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction

from billing import repaying, sending, webhooks
from billing.books import check_books
from billing.errors import WebhookForged
from billing.ids import uuid7
from billing.ledger import balance, open_account
from billing.models import (
    Account,
    Card,
    CreditGrant,
    CreditReversal,
    Customer,
    Dispute,
    LedgerEntry,
    Notice,
    OutboxRow,
    PaymentRefund,
    StripeEvent,
    StripeEventWork,
    TopUp,
)
from billing.providers import provider
from billing.providers.fake import checkout, refunds
from billing.providers.fake.errors import ApiError
from tests.till import Till

pytestmark = pytest.mark.django_db
# 500 orders, in parts: each has a life of its own at Stripe, and its own time limit.
PARTS, ORDERS = 10, 50


def test_a_forged_webhook_is_refused_and_not_kept(till: Till, account: Account) -> None:
    till.start(account)
    event = till.events()[0]

    assert till.post(event, secret="whsec_guessed").status_code == 400
    assert till.client.post("/stripe/webhooks", b"{}", content_type="application/json").status_code == 400
    assert till.client.post("/stripe/webhooks", b"\xff[", content_type="x", headers={"stripe-signature": "t=1,v1=00"}).status_code == 400

    assert not StripeEvent.objects.exists()


@pytest.mark.parametrize(("age_s", "status"), [(290, 200), (310, 400)])
def test_a_signature_is_good_for_300_seconds(till: Till, account: Account, age_s: int, status: int) -> None:
    till.start(account)

    assert till.post(till.events()[0], at=int(time.time()) - age_s).status_code == status
    assert StripeEvent.objects.count() == (status == 200)


def test_a_body_of_another_kind_is_refused(till: Till) -> None:
    from billing.providers.fake.delivery import sign
    from tests.till import SECRET

    for body in (
        b"null",
        b"[]",
        b"{}",
        b'{"object": "v2.core.event", "id": "evt_1"}',
        b'{"object": "event"}',
        b'{"object": "event", "id": 1}',
    ):
        with pytest.raises(WebhookForged):
            webhooks.receive(body, sign(body, SECRET))

    assert not StripeEvent.objects.exists()


def test_a_body_too_large_is_refused_unread(till: Till) -> None:
    reply = till.client.post("/stripe/webhooks", b"x" * (513 * 1024), content_type="application/json")

    assert (reply.status_code, StripeEvent.objects.exists()) == (413, False)


def test_a_site_without_payments_takes_no_webhooks(client: Any) -> None:
    reply = client.post("/stripe/webhooks", b"{}", content_type="application/json", headers={"stripe-signature": "t=1,v1=0"})

    assert (reply.status_code, StripeEvent.objects.exists()) == (400, False)


def test_unknown_types_are_kept_and_ignored(till: Till, account: Account) -> None:
    till.start(account)

    till.tell()

    assert StripeEventWork.objects.get(event__type="customer.created").outcome == "ignored"


def test_events_of_other_sites_on_the_same_stripe_account_are_ignored(till: Till, account: Account) -> None:
    params = {
        "mode": "payment",
        "line_items": [{"quantity": 1, "price_data": {"currency": "usd", "unit_amount": 900, "product_data": {"name": "Socks"}}}],
        "success_url": "http://socks/",
    }
    session = checkout.create_session(till.world, params)
    checkout.pay_by_card(till.world, session, "4242")
    refunds.create_refund(till.world, {"payment_intent": session["payment_intent"]})

    till.tell()

    assert set(StripeEventWork.objects.values_list("outcome", flat=True)) == {"ignored"}
    assert not TopUp.objects.exists()


def test_the_database_refuses_to_change_an_event(till: Till, account: Account) -> None:
    till.start(account)
    till.tell()

    for change in (
        lambda: StripeEvent.objects.update(type="x"),
        lambda: StripeEventWork.objects.all().delete() and StripeEvent.objects.all().delete(),
    ):
        with pytest.raises(IntegrityError), transaction.atomic():
            change()


def test_an_event_that_is_being_applied_is_not_applied_beside(till: Till, account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    top_up = till.start(account)
    till.pay(top_up)
    asked, beside = provider().get_checkout, []

    def get(identity: str) -> Any:
        beside.append(webhooks.apply_event(StripeEvent.objects.get(type="checkout.session.completed").pk))
        return asked(identity)

    monkeypatch.setattr(provider(), "get_checkout", get)
    till.tell()

    assert beside == [False]


# ---------------------------------------------------------------- Any order, any number of times: one state


def state_of(account: Account) -> dict[str, Any]:
    """Return everything that webhooks could have changed."""
    now = balance(account)
    return {
        "balance": (now.granted, now.spent),
        "top_ups": sorted(TopUp.objects.values_list("pk", "status", "payment_id")),
        "grants": sorted(CreditGrant.objects.values_list("reference", "amount_nanos")),
        "reversals": sorted(CreditReversal.objects.values_list("kind", "amount_nanos")),
        "refunds": sorted(PaymentRefund.objects.values_list("refund_id", "status", "amount_cents")),
        "disputes": sorted(Dispute.objects.values_list("pk", "status")),
        "cards": sorted((card.card_id, card.removed_at is None) for card in Card.objects.all()),
        "customer": [(customer.customer_id, customer.frozen_at is None) for customer in Customer.objects.all()],
        "notices": sorted(Notice.objects.values_list("kind", "subject")),
        "ledger": sorted(LedgerEntry.objects.values_list("ledger_account__name", "amount_nanos")),
        "waiting": StripeEventWork.objects.filter(outcome="waiting").count(),
        "outbox": sorted(OutboxRow.objects.values_list("kind", "state")),
    }


def live_a_little(till: Till, account: Account) -> None:
    """Have everything happen at Stripe that can, without telling us."""
    paid = till.start(account, 2500)
    with pytest.raises(ApiError):
        till.pay(paid, "0002")
    till.pay(paid)
    charge = till.world.store.all("charge")[0]
    late, won, lost = (till.start(account, cents) for cents in (1000, 1300, 1400))
    checkout.pay_by_debit(till.world, till.session(late), succeeds=True)
    checkout.settle_due(till.world, now=time.time() + 7200)
    for top_up in (won, lost):
        till.pay(top_up, "0259")
    for number, dispute in enumerate(till.world.store.all("dispute")):
        refunds.close_dispute(till.world, dispute, won=number == 1)
    refunds.create_refund(till.world, {"charge": charge["id"], "amount": 300})
    refunds.fail_refund(till.world, refunds.create_refund(till.world, {"charge": charge["id"], "amount": 400}))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("part", range(PARTS))
def test_500_orders_of_the_same_webhooks_end_in_one_state(till: Till, monkeypatch: pytest.MonkeyPatch, part: int) -> None:
    account = open_account(name="acme")
    live_a_little(till, account)
    for row in list(OutboxRow.objects.filter(state="waiting")):
        sending.deliver(row.pk)
    # What no handler acts on is kept and ignored, by a test above; here it would only take time.
    events = [provider_event(event) for event in till.events() if event["type"] in webhooks._HANDLERS]
    answers = Recorded(provider())
    finals: list[dict[str, Any]] = []

    for seed in range(part * ORDERS, (part + 1) * ORDERS):
        choose = random.Random(seed)
        order = [*events, *choose.sample(events, k=len(events) // 2)]
        choose.shuffle(order)
        if not finals:
            order = list(events)
        with transaction.atomic():
            monkeypatch.setattr("billing.webhooks.provider", lambda: answers)
            for event in order:
                webhooks._keep(event)
                webhooks.apply_event(event.id)
            finals.append(state_of(account))
            assert seed % ORDERS or check_books() == []
            transaction.set_rollback(True)
        assert finals[-1] == finals[0], f"seed {seed}"

    assert finals[0]["waiting"] == 0
    assert finals[0]["balance"] == (sum((2500, 1000, 1300, -300)) * 10_000_000, 0)
    assert [state for _, state in finals[0]["disputes"]].count("lost") == 1
    assert connection.connection is not None


def provider_event(event: dict[str, Any]) -> Any:
    """Return an event as the inbox is given it."""
    import json

    from billing.providers.fake.delivery import sign
    from billing.providers.fake.store import shown
    from tests.till import SECRET

    body = json.dumps(shown(event)).encode()
    return provider().read_webhook(body, sign(body, SECRET))


class Recorded:
    """The provider, whose answers to questions are asked for once: they do not change any more."""

    name = "fake"

    def __init__(self, inner: Any) -> None:
        self._inner, self._answers = inner, dict[tuple[str, str], Any]()

    def __getattr__(self, name: str) -> Any:
        def ask(identity: str) -> Any:
            key = (name, identity)
            if key not in self._answers:
                self._answers[key] = getattr(self._inner, name)(identity)
            return self._answers[key]

        return ask


def test_a_refund_heard_of_before_its_payment_is_not_lost(till: Till, account: Account) -> None:
    top_up = till.start(account)
    till.pay(top_up)
    refunds.create_refund(till.world, {"payment_intent": till.session(top_up)["payment_intent"], "amount": 100})

    assert till.post(till.events()[-1]).status_code == 200  # charge.refunded alone.
    webhooks.apply_waiting()

    top_up.refresh_from_db()
    assert (top_up.status, PaymentRefund.objects.get().amount_cents) == ("paid", 100)
    till.tell()
    assert PaymentRefund.objects.count() == CreditGrant.objects.filter(kind="top_up").count() == 1


def test_our_refunds_webhook_before_the_answer_is_recognized(till: Till, account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    top_up = till.top_up(account)
    create = provider().create_refund

    def create_and_tell(**named: Any) -> Any:
        state = create(**named)
        till.tell()
        return state

    monkeypatch.setattr(provider(), "create_refund", create_and_tell)
    made, row = repaying.refund_top_up(top_up, 700, reason="r", reference=uuid7(), by="operator")
    sending.deliver(row.pk)

    made.refresh_from_db()
    assert (PaymentRefund.objects.count(), made.status) == (1, "succeeded")
