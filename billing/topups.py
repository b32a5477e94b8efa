"""Buying credit: started here, paid at the provider, credited by what the provider says, never by a redirect.

Everything that tells of a top-up (the answer to our request, a webhook, a look of our own) ends
in `apply_checkout` or `apply_payment`, which move its state forward and credit it once.
"""

import logging
from datetime import datetime
from typing import Final

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from billing import outbox
from billing.customers import check_not_frozen, ensure_customer, lock_customer
from billing.errors import PaymentsOff, TopUpOutOfRange
from billing.ids import public_id
from billing.ledger import grant_credit
from billing.models import Account, AutoRecharge, CreditGrant, OutboxRow, TopUp
from billing.money import NANOS_PER_CENT, Nanos
from billing.providers import collects_money
from billing.providers.base import CheckoutState, PaymentState, TopUpOrder

log = logging.getLogger(__name__)

Status = TopUp.Status
UNSETTLED: Final = (Status.CREATED, Status.OPEN, Status.PROCESSING)
# Forward only. Paid is last: money that came is credited, whatever was thought before.
_RANK: Final = {Status.CREATED: 0, Status.OPEN: 1, Status.PROCESSING: 2, Status.EXPIRED: 3, Status.FAILED: 3, Status.PAID: 4}
# A payment that is in one of these will not succeed by itself.
DEAD_PAYMENT: Final = frozenset({"requires_payment_method", "canceled"})


@transaction.atomic
def start_top_up(account: Account, amount_cents: int, *, by: str, success_url: str, cancel_url: str) -> tuple[TopUp, OutboxRow]:
    """Start buying credit on a Checkout page; return the top-up and the row that asks for the page.

    Args:
        account: Who buys.
        amount_cents: In the account's currency, within TOP_UP_MIN_CENTS and TOP_UP_MAX_CENTS.
        by: Who does it.
        success_url: Where the provider sends the customer afterwards; `{id}` stands for the top-up's public one.
        cancel_url: Where it sends who does not pay; likewise.

    Raises:
        PaymentsOff, PaymentsFrozen, TopUpOutOfRange: nothing was started.
    """
    if not collects_money():
        message = "This site collects no money: ask its operator for credit."
        raise PaymentsOff(message)
    minimum, maximum = settings.TOP_UP_MIN_CENTS, settings.TOP_UP_MAX_CENTS
    if not minimum <= amount_cents <= maximum:
        raise TopUpOutOfRange(amount_cents=amount_cents, minimum_cents=minimum, maximum_cents=maximum)
    check_not_frozen(ensure_customer(account))
    top_up = TopUp.objects.create(
        account=account, amount_cents=amount_cents, currency=account.currency, source=TopUp.Source.CHECKOUT, by=by[:120]
    )
    identity = public_id("top", top_up.pk)
    urls = {"success_url": success_url.replace("{id}", identity), "cancel_url": cancel_url.replace("{id}", identity)}
    return top_up, outbox.enqueue(account, kind="checkout.create", subject=top_up.pk, parameters=urls)


def order_of(top_up: TopUp, *, customer_id: str) -> TopUpOrder:
    """Return what the provider is asked to collect."""
    return TopUpOrder(
        customer=customer_id,
        reference=top_up.pk,
        amount_cents=top_up.amount_cents,
        currency=top_up.currency,
        description="Prepaid credit",
        created_at=top_up.created_at,
        asks_address=settings.STRIPE_TAX,
    )


@transaction.atomic
def apply_checkout(top_up: TopUp, state: CheckoutState) -> TopUp:
    """Move a top-up to what its Checkout session says."""
    top_up = _lock(top_up)
    if state.payment is not None and not top_up.payment_id:
        top_up.payment_id = state.payment.id
    top_up.checkout_id, top_up.checkout_url = state.id, state.url or ""
    top_up.save(update_fields=["payment_id", "checkout_id", "checkout_url"])
    if state.is_paid:
        received = state.payment.received_cents if state.payment else 0
        return _credit(top_up, received_cents=received, currency=state.payment.currency if state.payment else "")
    if state.status == "expired":
        return _move(top_up, Status.EXPIRED)
    if state.status == "complete":  # A bank debit: on its way, or come back.
        is_dead = state.payment is not None and state.payment.status in DEAD_PAYMENT
        return (
            _move(top_up, Status.FAILED, failure=state.payment.failure or "payment_failed")
            if is_dead and state.payment
            else _move(top_up, Status.PROCESSING)
        )
    return _move(top_up, Status.OPEN)


@transaction.atomic
def apply_payment(top_up: TopUp, state: PaymentState) -> TopUp:
    """Move a top-up to what its payment says.

    A refused card ends an auto-recharge. On a Checkout page the customer tries the next one:
    there the session says when it is over.
    """
    top_up = _lock(top_up)
    if not top_up.payment_id:
        top_up.payment_id = state.id
        top_up.save(update_fields=["payment_id"])
    if state.status == "succeeded":
        return _credit(top_up, received_cents=state.received_cents, currency=state.currency)
    if top_up.source == TopUp.Source.AUTO and state.status in DEAD_PAYMENT:
        return _move(top_up, Status.FAILED, failure=state.failure or "card_declined")
    if state.status == "processing":
        return _move(top_up, Status.PROCESSING)
    return top_up


@transaction.atomic
def fail_top_up(top_up: TopUp, *, failure: str) -> TopUp:
    """Note that a top-up will not be paid. One that was paid stays so."""
    return _move(_lock(top_up), Status.FAILED, failure=failure)


def unsettled_since(moment: datetime) -> list[TopUp]:
    """Return the top-ups of before a moment that are neither paid nor over, the oldest first."""
    return list(TopUp.objects.filter(status__in=UNSETTLED, created_at__lt=moment).order_by("created_at"))


def _lock(top_up: TopUp) -> TopUp:
    # The customer's lock comes first, always: refunds, disputes and the recharge take both.
    lock_customer(top_up.account)
    return TopUp.objects.select_for_update().get(pk=top_up.pk)


def _move(top_up: TopUp, status: TopUp.Status, *, failure: str = "") -> TopUp:
    if _RANK[Status(top_up.status)] >= _RANK[status]:
        return top_up
    top_up.status, top_up.failure = status, failure[:80]
    top_up.settled_at = timezone.now() if status not in UNSETTLED else None
    top_up.save(update_fields=["status", "failure", "settled_at"])
    return top_up


def _credit(top_up: TopUp, *, received_cents: int, currency: str) -> TopUp:
    """Credit what came in, once: the ledger takes each reference a single time."""
    if top_up.status == Status.PAID:
        return top_up
    if (received_cents, currency) != (top_up.amount_cents, top_up.currency):
        # Nothing here asks for part payments or conversions. Whoever runs the site has to look.
        message = (
            f"Top-up {top_up.pk}: {received_cents} {currency} came in for {top_up.amount_cents} {top_up.currency}; it is not credited."
        )
        raise ValueError(message)
    amount = Nanos(received_cents * NANOS_PER_CENT)
    grant_credit(top_up.account, amount, kind=CreditGrant.Kind.TOP_UP, reference=f"top_up:{top_up.pk}", by="payments")
    if top_up.source == TopUp.Source.CHECKOUT:  # Somebody was there, with a card that works.
        AutoRecharge.objects.filter(account=top_up.account).update(paused_at=None, pause_reason="")
    log.info("Top-up %s of %d cents is paid.", top_up.pk, received_cents)
    return _move(top_up, Status.PAID)
