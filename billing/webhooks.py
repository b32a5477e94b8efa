"""The provider's webhooks: kept first, applied later, by asking for the object as it is now.

They come unordered, more than once, late, or not at all. So each is stored once by its event id
in a transaction of its own; applying one fetches the object again and moves our state only
forward; and what never came is caught up on from the provider's list of events.
"""

import logging
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Final

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import F
from django.utils import timezone

from billing import (
    connect_events,
    connecting,
    customers,
    disputes,
    feed_checks,
    invoice_events,
    invoice_refunds,
    recharging,
    repaying,
    taxing,
    topups,
)
from billing.errors import ProviderRefused, ProviderUnavailable
from billing.models import Account, Customer, StripeCatchUp, StripeEvent, StripeEventWork, TopUp
from billing.providers import collects_money, provider
from billing.providers.base import PaymentState, ProviderEvent, RefundState

log = logging.getLogger(__name__)

Outcome = StripeEventWork.Outcome
_CLAIM: Final = timedelta(seconds=60)
_BATCH: Final = 100
# Seconds until an event that could not be applied is tried again; then every hour.
_WAITS_S: Final = (5, 15, 60, 300, 3600)
# How far before the end of the last catching up the next one begins: clocks differ, and lists lag.
_OVERLAP: Final = timedelta(hours=1)
# Stripe keeps events for 30 days.
_KEPT: Final = timedelta(days=29)
# A top-up that has not settled for so long is asked about, whether or not a webhook came.
_PATIENCE: Final = timedelta(minutes=2)


def receive(body: bytes, signature: str) -> str | None:
    """Keep a webhook; return its event's id, or None where it came before.

    Raises:
        WebhookForged: the signature is wrong, or more than 300 s old. Nothing was kept.
    """
    event = provider().read_webhook(body, signature)
    return event.id if _keep(event) else None


def _keep(event: ProviderEvent) -> bool:
    try:
        with transaction.atomic():
            kept = StripeEvent(
                event_id=event.id,
                type=event.type[:80],
                object_id=event.object_id[:120],
                connected_id=event.account[:80],
                livemode=event.livemode,
                occurred_at=event.created_at,
                body=event.body,
            )
            kept.save(force_insert=True)
            StripeEventWork.objects.create(event=kept, due_at=timezone.now())
    except IntegrityError:  # It came before.
        return False
    return True


def apply_waiting() -> int:
    """Apply the events that are due; return how many were. Safe at the same time as itself."""
    now = timezone.now()
    due = StripeEventWork.objects.filter(outcome=Outcome.WAITING, due_at__lte=now).order_by("due_at")
    return sum(apply_event(event_id) for event_id in list(due.values_list("event_id", flat=True)[:_BATCH]))


def apply_event(event_id: str) -> bool:
    """Apply one event that is due and that nobody else applies; whether it is done with.

    The object is fetched while no transaction is open.
    """
    now = timezone.now()
    due = StripeEventWork.objects.filter(event=event_id, outcome=Outcome.WAITING, due_at__lte=now)
    if not due.update(due_at=now + _CLAIM, attempts=F("attempts") + 1):
        return False
    work = StripeEventWork.objects.select_related("event").get(event=event_id)
    try:
        is_ours = _apply(work.event)
    except (ProviderUnavailable, ProviderRefused, ValueError) as error:
        log.warning("%s could not be applied (%s); it is tried again.", work.event, error)
        wait = _WAITS_S[min(work.attempts, len(_WAITS_S)) - 1]
        work.due_at, work.last_error = timezone.now() + timedelta(seconds=wait), str(error)[:300]
        work.save(update_fields=["due_at", "last_error"])
        return False
    work.outcome, work.applied_at = Outcome.APPLIED if is_ours else Outcome.IGNORED, timezone.now()
    work.save(update_fields=["outcome", "applied_at"])
    return True


def _apply(event: StripeEvent) -> bool:
    if event.connected_id:  # Of a connected account: its charges and customers are not ours.
        apply_connected = connect_events.CONNECTED.get(event.type)
        return apply_connected is not None and apply_connected(event.connected_id, event.object_id)
    if event.type in feed_checks.FAULTS:
        return feed_checks.apply_fault(event)
    apply = _HANDLERS.get(event.type)
    return apply is not None and apply(event.object_id)


def catch_up() -> int:
    """Fetch the events whose webhooks never came, and ask about top-ups that wait; return how many events were new."""
    if not collects_money():
        return 0
    first = Customer.objects.order_by("created_at").values_list("created_at", flat=True).first()
    if first is None:
        return 0  # Nothing was ever asked, so there is nothing to hear.
    now = timezone.now()
    reached = StripeCatchUp.objects.filter(name="events").values_list("reached_at", flat=True).first() or first
    # All are read before the first is kept: broken off in the middle, the next run begins where this one did.
    since = max(reached - _OVERLAP, now - _KEPT)
    events = list(provider().events_since(since))
    if settings.STRIPE_METERS:  # What tells of meters is in a list of its own.
        events += provider().meter_events_since(since)
    found = sum(_keep(event) for event in reversed(events))
    StripeCatchUp.objects.update_or_create(name="events", defaults={"reached_at": now})
    for top_up in topups.unsettled_since(now - _PATIENCE):
        refresh_top_up(top_up)
    connecting.refresh_quiet_payees(now=now)  # Their events are in none of our lists.
    return found


def refresh_top_up(top_up: TopUp) -> TopUp:
    """Ask the provider about one top-up, where there is something to ask about; return it as it is then.

    Raises:
        ProviderUnavailable: there was no answer. Nothing was changed.
    """
    if top_up.checkout_id:
        return topups.apply_checkout(top_up, provider().get_checkout(top_up.checkout_id))
    if top_up.payment_id:
        return _apply_payment(top_up, provider().get_payment(top_up.payment_id))
    return top_up  # Its outbox row is still being sent.


# ---------------------------------------------------------------- What each type of event is about


def _session_changed(session_id: str) -> bool:
    state = provider().get_checkout(session_id)
    top_up = TopUp.objects.select_related("account").filter(pk=state.reference).first() if state.reference else None
    if top_up is None:
        return False
    topups.apply_checkout(top_up, state)
    return True


def _payment_changed(payment_id: str) -> bool:
    state = provider().get_payment(payment_id)
    top_up = TopUp.objects.select_related("account").filter(pk=state.reference).first() if state.reference else None
    if top_up is None:
        return False
    _apply_payment(top_up, state)
    return True


def _apply_payment(top_up: TopUp, state: PaymentState) -> TopUp:
    with transaction.atomic():
        top_up = topups.apply_payment(top_up, state)
        if top_up.source == TopUp.Source.AUTO and top_up.status == TopUp.Status.FAILED:
            recharging.note_refusal(top_up, payment=state.id)
    return top_up


def _learn_payment(payment_id: str) -> bool:
    """Whether a payment is ours, having learned whose if need be: its own webhook may come after a dispute's."""
    return TopUp.objects.filter(payment_id=payment_id).exclude(payment_id="").exists() or _payment_changed(payment_id)


def _refund_changed(refund_id: str) -> bool:
    state = provider().get_refund(refund_id)
    return _refunded(state)


def _charge_refunded(charge_id: str) -> bool:
    ours = 0
    for state in provider().refunds_of_charge(charge_id):
        ours += _refunded(state)
    return ours > 0


def _refunded(state: RefundState) -> bool:
    if not state.payment:
        return False
    return repaying.apply_refund(state) if _learn_payment(state.payment) else invoice_refunds.learn_refund(state)


def _dispute_changed(dispute_id: str) -> bool:
    state = provider().get_dispute(dispute_id)
    if not state.payment:
        return False
    if _learn_payment(state.payment):
        return disputes.apply_dispute(state)
    return disputes.stop_customer(state, customer_id=provider().get_payment(state.payment).customer)


def _card_changed(card_id: str) -> bool:
    state = provider().get_card(card_id)
    if state.customer and not Customer.objects.filter(customer_id=state.customer).exists():
        _customer_changed(state.customer)
    return customers.apply_card(state)


def _customer_changed(customer_id: str) -> bool:
    state = provider().get_customer(customer_id)
    account = Account.objects.filter(pk=state.reference).first() if state.reference else None
    if account is None:
        return False
    customers.apply_customer(account, state)
    taxing.ask_again(account)  # It may be the address that has changed.
    return True


_HANDLERS: Final[Mapping[str, Callable[[str], bool]]] = {
    "checkout.session.completed": _session_changed,
    "checkout.session.expired": _session_changed,
    "checkout.session.async_payment_succeeded": _session_changed,
    "checkout.session.async_payment_failed": _session_changed,
    "payment_intent.succeeded": _payment_changed,
    "payment_intent.payment_failed": _payment_changed,
    "payment_intent.canceled": _payment_changed,
    "charge.refunded": _charge_refunded,
    "refund.created": _refund_changed,
    "refund.updated": _refund_changed,
    "refund.failed": _refund_changed,
    "charge.dispute.created": _dispute_changed,
    "charge.dispute.updated": _dispute_changed,
    "charge.dispute.closed": _dispute_changed,
    "payment_method.attached": _card_changed,
    "payment_method.detached": _card_changed,
    "payment_method.updated": _card_changed,
    "payment_method.automatically_updated": _card_changed,
    "customer.updated": _customer_changed,
    **connect_events.OURS,
    **invoice_events.OURS,
}
