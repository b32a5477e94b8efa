"""Disputed payments: the credit goes when the money does, and payments stand still until it is decided."""

import logging
from typing import Final

from django.db import transaction
from django.utils import timezone

from billing.credit_lines import withdraw_line
from billing.customers import lock_customer, notify
from billing.ledger import grant_credit
from billing.models import Account, CreditGrant, CreditReversal, Customer, Dispute, Notice, TopUp
from billing.money import NANOS_PER_CENT, Nanos
from billing.providers.base import DisputeState
from billing.reversals import reverse_credit

log = logging.getLogger(__name__)
Status = Dispute.Status
_RANK: Final = {Status.INQUIRY: 0, Status.OPEN: 1, Status.WON: 2, Status.LOST: 2}


@transaction.atomic
def apply_dispute(state: DisputeState) -> bool:
    """Move a dispute to what the provider says; False where the payment is not ours.

    Every state is passed through, so that the ledger is the same whichever webhook came first: a
    dispute heard of when it was already won still takes the credit, and gives it back.
    """
    top_up = TopUp.objects.select_related("account").filter(payment_id=state.payment).exclude(payment_id="").first()
    if top_up is None:
        return False
    customer = lock_customer(top_up.account)
    dispute, _ = Dispute.objects.get_or_create(
        dispute_id=state.id,
        defaults={"top_up": top_up, "amount_cents": state.amount_cents, "status": Status.INQUIRY, "reason": state.reason[:80]},
    )
    target = _status_of(state)
    if _RANK[Status(dispute.status)] >= _RANK[target]:
        return True
    if dispute.status == Status.INQUIRY:
        _open(dispute, customer)
    if target in {Status.WON, Status.LOST}:
        _close(dispute, customer, is_won=target is Status.WON)
    return True


@transaction.atomic
def stop_customer(state: DisputeState, *, customer_id: str) -> bool:
    """Stop a customer who disputes another payment than a top-up, an invoice's: no credit stands for it that could be taken back.

    Payments freeze and the credit line stops, until the operator has seen to it; False where the customer is not ours,
    or nothing was taken.
    """
    found = Customer.objects.select_related("account").filter(customer_id=customer_id).exclude(customer_id="").first()
    if found is None or _status_of(state) in {Status.INQUIRY, Status.WON}:
        return False
    customer = lock_customer(found.account)
    if customer.frozen_at is None:
        customer.frozen_at = timezone.now()
        customer.save(update_fields=["frozen_at"])
    withdraw_line(found.account)
    log.error(
        "Dispute %s of %d cents is of no top-up: write off or collect what account %s owes.", state.id, state.amount_cents, found.account_id
    )
    notify(found.account, Notice.Kind.DISPUTE_OPENED, subject=state.id)
    return True


@transaction.atomic
def unfreeze_payments(account: Account) -> None:
    """Let an account pay again after a lost dispute; the credit stays taken. Safe to repeat."""
    customer = lock_customer(account)
    customer.frozen_at = None
    customer.save(update_fields=["frozen_at"])


def _status_of(state: DisputeState) -> Dispute.Status:
    if state.status.startswith("warning_"):  # An inquiry: no money was taken, nor is when it closes.
        return Status.INQUIRY
    return {"won": Status.WON, "lost": Status.LOST}.get(state.status, Status.OPEN)


def _open(dispute: Dispute, customer: Customer) -> None:
    account = dispute.top_up.account
    dispute.status = Status.OPEN
    dispute.save(update_fields=["status"])
    reverse_credit(
        account,
        dispute.amount_cents,
        kind=CreditReversal.Kind.DISPUTE,
        reference=f"dispute:{dispute.pk}",
        by="payments",
        may_owe=True,  # The bank has taken the money, spent or not.
    )
    if customer.frozen_at is None:
        customer.frozen_at = timezone.now()
        customer.save(update_fields=["frozen_at"])
    notify(account, Notice.Kind.DISPUTE_OPENED, subject=dispute.pk)


def _close(dispute: Dispute, customer: Customer, *, is_won: bool) -> None:
    dispute.status = Status.WON if is_won else Status.LOST
    dispute.closed_at = timezone.now()
    dispute.save(update_fields=["status", "closed_at"])
    if not is_won:
        return
    amount = Nanos(dispute.amount_cents * NANOS_PER_CENT)
    grant_credit(dispute.top_up.account, amount, kind=CreditGrant.Kind.TOP_UP, reference=f"dispute_won:{dispute.pk}", by="payments")
    others = Dispute.objects.filter(top_up__account=dispute.top_up.account, status__in=[Status.OPEN, Status.LOST])
    if not others.exists():
        customer.frozen_at = None
        customer.save(update_fields=["frozen_at"])
