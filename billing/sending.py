"""Deliver the outbox: ask the provider, and do what its answer says.

Each kind of row has a step of four parts: ask, look (did it happen already?), what an answer
changes, and what a refusal changes. A row without a known outcome is asked again under the same
idempotency key; where the key is spent or forgotten, it is looked up first.
"""

import logging
from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from billing import connect_steps, customers, feed_steps, invoice_steps, outbox, recharging, repaying, tax_steps, topups
from billing.errors import CardRefused, ProviderRefused, ProviderUnavailable
from billing.models import Customer, OutboxRow, PaymentRefund, TopUp
from billing.providers import provider
from billing.providers.base import CardState, CheckoutState, CustomerState, PaymentState, RefundState, TopUpOrder
from billing.steps import S, Step

log = logging.getLogger(__name__)

# Rows of one sweep: at 0.3 s a call, what fits between two sweeps.
_BATCH: Final = 50


class CreateCustomer(Step[CustomerState]):
    """Makes an account a customer."""

    def ask(self, row: OutboxRow) -> CustomerState:
        """Make it."""
        return provider().create_customer(key=row.idempotency_key, reference=row.account_id, name=row.parameters["name"])

    def look(self, row: OutboxRow) -> CustomerState | None:
        """Find it by the account's id."""
        return provider().find_customer(row.account_id)

    def apply(self, row: OutboxRow, state: CustomerState) -> None:
        """Note its id."""
        customers.apply_customer(row.account, state)


class CreateCheckout(Step[CheckoutState]):
    """Makes the page on which a top-up is paid."""

    def ask(self, row: OutboxRow) -> CheckoutState:
        """Make it."""
        urls = row.parameters
        return provider().create_checkout(
            _order(row), key=row.idempotency_key, success_url=urls["success_url"], cancel_url=urls["cancel_url"]
        )

    def look(self, row: OutboxRow) -> CheckoutState | None:
        """Find it by the top-up's id."""
        return provider().find_checkout(_order(row))

    def apply(self, row: OutboxRow, state: CheckoutState) -> None:
        """Note where to pay."""
        topups.apply_checkout(_top_up(row), state)

    def refuse(self, row: OutboxRow, error: ProviderRefused) -> None:
        """Give the top-up up."""
        topups.fail_top_up(_top_up(row), failure=error.reason)


class ChargeCard(Step[PaymentState]):
    """Charges the saved card of an account that runs low."""

    def ask(self, row: OutboxRow) -> PaymentState:
        """Charge it."""
        return provider().charge_card(_order(row), key=row.idempotency_key, card=row.parameters["card"])

    def look(self, row: OutboxRow) -> PaymentState | None:
        """Find the payment by the top-up's id."""
        return provider().find_payment(_order(row))

    def apply(self, row: OutboxRow, state: PaymentState) -> None:
        """Credit it, or note the refusal that a look found."""
        top_up = topups.apply_payment(_top_up(row), state)
        if top_up.status == TopUp.Status.FAILED:
            recharging.note_refusal(top_up, payment=state.id)

    def refuse(self, row: OutboxRow, error: ProviderRefused) -> None:
        """Stop charging until a person has seen to it."""
        payment = error.payment if isinstance(error, CardRefused) else ""
        top_up = topups.fail_top_up(_top_up(row), failure=error.reason)
        if top_up.status == TopUp.Status.FAILED:
            recharging.note_refusal(top_up, payment=payment)


class CancelPayment(Step[PaymentState]):
    """Makes sure that a refused payment is never completed."""

    def ask(self, row: OutboxRow) -> PaymentState:
        """Cancel it."""
        return provider().cancel_payment(row.parameters["payment"], key=row.idempotency_key)

    def look(self, row: OutboxRow) -> PaymentState | None:
        """See whether it ended."""
        state = provider().get_payment(row.parameters["payment"])
        return state if state.status in {"succeeded", "canceled"} else None

    def apply(self, row: OutboxRow, state: PaymentState) -> None:
        """Credit it if it was paid after all."""
        topups.apply_payment(_top_up(row), state)


class DetachCard(Step[CardState]):
    """Forgets a card."""

    def ask(self, row: OutboxRow) -> CardState:
        """Detach it."""
        return provider().detach_card(row.parameters["card"], key=row.idempotency_key)

    def look(self, row: OutboxRow) -> CardState | None:
        """See whether it is detached."""
        state = provider().get_card(row.parameters["card"])
        return state if state.customer is None else None

    def apply(self, row: OutboxRow, state: CardState) -> None:  # noqa: ARG002 (every step's signature)
        """Note that it is gone."""
        customers.apply_card(state)


class CreateRefund(Step[RefundState]):
    """Gives a payment back."""

    def ask(self, row: OutboxRow) -> RefundState:
        """Refund it."""
        asked = row.parameters
        return provider().create_refund(
            key=row.idempotency_key, payment=asked["payment"], amount_cents=asked["amount_cents"], reference=UUID(row.subject)
        )

    def look(self, row: OutboxRow) -> RefundState | None:
        """Find it by our refund's id."""
        return provider().find_refund(payment=row.parameters["payment"], reference=UUID(row.subject))

    def apply(self, row: OutboxRow, state: RefundState) -> None:  # noqa: ARG002 (every step's signature)
        """Note how far it is."""
        repaying.apply_refund(state)

    def refuse(self, row: OutboxRow, error: ProviderRefused) -> None:
        """Give the credit again."""
        repaying.fail_refund(PaymentRefund.objects.get(pk=row.subject), failure=error.reason)


STEPS: Final[Mapping[str, Step[Any]]] = {
    "customer.create": CreateCustomer(),
    "checkout.create": CreateCheckout(),
    "card.charge": ChargeCard(),
    "payment.cancel": CancelPayment(),
    "card.detach": DetachCard(),
    "refund.create": CreateRefund(),
    "account.create": connect_steps.CreateConnected(),
    "transfer.create": connect_steps.CreateTransfer(),
    "transfer.reverse": connect_steps.ReverseTransfer(),
    **invoice_steps.STEPS,
    **feed_steps.STEPS,
    **tax_steps.STEPS,
}


def sweep() -> int:
    """Send the rows that are due; return how many were answered. Safe at the same time as itself.

    It ends at the first that gets no answer: each may take half a minute, and the worker has
    other things to do. What meters are told comes last: nobody waits for it.
    """
    answered = 0
    payments = outbox.due_rows(now=timezone.now(), limit=_BATCH, but=tuple(feed_steps.STEPS))
    reports = outbox.due_rows(now=timezone.now(), limit=_BATCH, only=tuple(feed_steps.STEPS))
    for row_id in (*payments, *reports):
        if not deliver(row_id):
            break
        answered += 1
    return answered


def deliver(row_id: UUID) -> bool:
    """Send one row, if it is due and nobody else does; whether it was answered.

    No transaction is open while the provider is asked. A crash at any point leaves the row to be
    sent again under the key that it has.
    """
    row = outbox.claim(row_id, now=timezone.now())
    if row is None:
        return False
    step = STEPS[row.kind]
    try:
        state = _ask_or_look(step, row)
        with transaction.atomic():
            step.apply(row, state)
            outbox.finish(row, OutboxRow.State.DONE)
    except ProviderUnavailable as error:
        outbox.postpone(row, now=timezone.now(), why=str(error), needs_lookup=error.key_is_spent)
        log.warning("%s got no answer (%s); it is asked again.", row, error)
        return False
    except ProviderRefused as error:
        with transaction.atomic():
            if outbox.finish(row, OutboxRow.State.REFUSED, why=str(error)):
                step.refuse(row, error)
        log.warning("%s was refused: %s", row, error)
    return True


def _ask_or_look(step: Step[S], row: OutboxRow) -> S:
    if row.needs_lookup or outbox.is_key_old(row, now=timezone.now()):
        found = step.look(row)
        if found is not None:
            return found
        outbox.renew_key(row)
    outbox.note_sending(row, now=timezone.now())
    return step.ask(row)


def _top_up(row: OutboxRow) -> TopUp:
    return TopUp.objects.select_related("account").get(pk=row.subject)


def _order(row: OutboxRow) -> TopUpOrder:
    """Return what a row asks to collect; its customer is made first where that has not happened."""
    customer = Customer.objects.get(account=row.account_id)
    if not customer.customer_id:
        for waiting in OutboxRow.objects.filter(kind="customer.create", account=row.account_id, state=OutboxRow.State.WAITING):
            deliver(waiting.pk)
        customer.refresh_from_db()
    if not customer.customer_id:
        message = "The customer has not been made yet."
        raise ProviderUnavailable(message)
    return topups.order_of(_top_up(row), customer_id=customer.customer_id)
