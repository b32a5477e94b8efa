"""Send providers what they are owed, once: the row, the posting and the request are one commit; the outbox does the rest.

Whatever tells of a transfer (the answer to our request, a webhook, the daily listing) ends in `apply_transfer`.
"""

import logging
from datetime import datetime
from typing import Final
from uuid import NAMESPACE_URL, uuid5

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from billing import ledger, outbox
from billing.connecting import lock_payee
from billing.models import Account, LedgerAccount, OutboxRow, Payout, PayoutAccount, PayoutReversal
from billing.money import NANOS_PER_CENT
from billing.payable import CAME_BACK, NOT_SENT, SENT, find_payable, ledger_names
from billing.providers.base_connect import ReversalState, TransferOrder, TransferState
from billing.sums import total_of

log = logging.getLogger(__name__)

# The fund that holds what was sent: at the payment provider it is the transfers, less their reversals.
PAYOUTS: Final = "payouts"


def find_obstacle(payee: PayoutAccount) -> str:
    """Return why a provider is sent nothing now: "suspended", "held", "not_onboarded" or ""."""
    if payee.suspended_at is not None or payee.account.suspended_at is not None:
        return "suspended"
    if payee.held_at is not None:
        return "held"
    return "" if payee.is_onboarded else "not_onboarded"


@transaction.atomic
def make_payout(account: Account, *, currency: str, by: str, now: datetime) -> Payout | None:
    """Send a provider what it can be sent; None where that is nothing, too little, or not allowed now.

    Safe to run at the same time as itself: the provider's row is locked, and what is sent has left
    the balance when the lock is let go.
    """
    payee = lock_payee(account)
    if find_obstacle(payee) or account.payouts.filter(currency=currency, status=Payout.Status.WAITING).exists():
        return None
    payable = find_payable(account, currency=currency, now=now)
    if payable is None or payable.cents < settings.PAYOUT_MIN_CENTS:
        return None
    payout = Payout.objects.create(
        account=account, amount_cents=payable.cents, currency=currency, connected_id=payee.connected_id, by=by[:120]
    )
    _post(payout, payout.amount_cents, kind=SENT, reference=f"payout:{payout.pk}", by=by)
    outbox.enqueue(account, kind="transfer.create", subject=payout.pk, parameters={})
    return payout


def order_of(payout: Payout) -> TransferOrder:
    """Return what the payment provider is asked to send."""
    return TransferOrder(
        reference=payout.pk,
        destination=payout.connected_id,
        amount_cents=payout.amount_cents,
        currency=payout.currency,
        description="Share of model calls",
    )


@transaction.atomic
def apply_transfer(state: TransferState) -> bool:
    """Move a payout to what its transfer says, with all that came back of it; False where it is not ours."""
    payout = _find(state)
    if payout is None:
        return False
    lock_payee(payout.account)
    payout = Payout.objects.select_related("account").get(pk=payout.pk)
    if (state.amount_cents, state.currency) != (payout.amount_cents, payout.currency):
        message = f"Payout {payout.pk} of {payout.amount_cents} {payout.currency} is a transfer of {state.amount_cents} {state.currency}."
        raise ValueError(message)
    if payout.transfer_id and payout.transfer_id != state.id:
        message = f"Payout {payout.pk} was sent twice: {payout.transfer_id} and {state.id}."
        raise ValueError(message)
    if payout.status == Payout.Status.FAILED:  # It was thought refused, and its money is in the balance again.
        _post(payout, payout.amount_cents, kind=SENT, reference=f"payout_after_all:{payout.pk}", by="payments")
    if payout.status != Payout.Status.PAID:
        payout.status, payout.transfer_id, payout.failure, payout.settled_at = Payout.Status.PAID, state.id, "", timezone.now()
        payout.save(update_fields=["status", "transfer_id", "failure", "settled_at"])
    for reversal in state.reversals:
        _apply_reversal(payout, reversal)
    return True


@transaction.atomic
def fail_payout(payout: Payout, *, failure: str) -> None:
    """Note that nothing was sent; it is in the balance again, for the next run."""
    lock_payee(payout.account)
    payout = Payout.objects.select_related("account").get(pk=payout.pk)
    if payout.status != Payout.Status.WAITING:
        return
    payout.status, payout.failure, payout.settled_at = Payout.Status.FAILED, failure[:300], timezone.now()
    payout.save(update_fields=["status", "failure", "settled_at"])
    _post(payout, -payout.amount_cents, kind=NOT_SENT, reference=f"payout_failed:{payout.pk}", by="payments")


# ---------------------------------------------------------------- What comes back


@transaction.atomic
def reverse_debt(account: Account, *, currency: str, by: str, now: datetime) -> list[tuple[PayoutReversal, OutboxRow]]:
    """Ask back what a provider owes, from its newest payouts; return the reversals that were started.

    A balance falls below zero where a refund or a lost dispute took back a share that was sent already. What
    the account there no longer holds is refused by the payment provider, and then taken from the next payouts.
    """
    lock_payee(account)
    payable = find_payable(account, currency=currency, now=now)
    if payable is None or payable.balance >= 0:
        return []
    waiting = PayoutReversal.objects.filter(payout__account=account, payout__currency=currency, status=PayoutReversal.Status.WAITING)
    debt_cents = -payable.balance // NANOS_PER_CENT - total_of(waiting, "amount_cents")
    started = []
    for payout in account.payouts.filter(currency=currency, status=Payout.Status.PAID).order_by("-created_at"):
        amount = min(debt_cents, left_cents(payout))
        if amount <= 0:
            continue
        debt_cents -= amount
        reversal = PayoutReversal.objects.create(
            payout=payout, amount_cents=amount, reason="Shares that were taken back after they were sent.", by=by[:120]
        )
        started.append((reversal, outbox.enqueue(account, kind="transfer.reverse", subject=reversal.pk, parameters={})))
    return started


def left_cents(payout: Payout) -> int:
    """Return what of a payout has not come back and is not asked back."""
    return payout.amount_cents - total_of(payout.reversals.exclude(status=PayoutReversal.Status.FAILED), "amount_cents")


@transaction.atomic
def apply_reversal(state: ReversalState) -> bool:
    """Note a reversal that was made; False where it is not of a payout of ours."""
    payout = Payout.objects.select_related("account").filter(transfer_id=state.transfer).exclude(transfer_id="").first()
    if payout is None:
        return False
    lock_payee(payout.account)
    _apply_reversal(payout, state)
    return True


@transaction.atomic
def fail_reversal(reversal: PayoutReversal, *, failure: str) -> None:
    """Note that nothing came back: the debt stays."""
    lock_payee(reversal.payout.account)
    waiting = PayoutReversal.objects.filter(pk=reversal.pk, status=PayoutReversal.Status.WAITING)
    waiting.update(status=PayoutReversal.Status.FAILED, failure=failure[:300], settled_at=timezone.now())


def _apply_reversal(payout: Payout, state: ReversalState) -> None:
    """Put what came back into the provider's balance, once. In a transaction that holds the provider's lock."""
    by_reference = payout.reversals.filter(pk=state.reference).first() if state.reference else None
    reversal = by_reference or payout.reversals.filter(reversal_id=state.id).first()
    if reversal is None:
        reversal = PayoutReversal.objects.create(
            id=uuid5(NAMESPACE_URL, f"stripe:{state.id}"),  # So that two who hear of it at once make one row.
            payout=payout,
            amount_cents=state.amount_cents,
            reason="Reversed at the payment provider.",
            by="payments",
        )
    if reversal.status == PayoutReversal.Status.DONE:
        return
    reversal.status, reversal.reversal_id, reversal.failure, reversal.settled_at = PayoutReversal.Status.DONE, state.id, "", timezone.now()
    reversal.save(update_fields=["status", "reversal_id", "failure", "settled_at"])
    _post(payout, -state.amount_cents, kind=CAME_BACK, reference=f"payout_reversal:{reversal.pk}", by=reversal.by)


def _find(state: TransferState) -> Payout | None:
    payouts = Payout.objects.select_related("account")
    found = payouts.filter(pk=state.reference).first() if state.reference else None
    return found or payouts.filter(transfer_id=state.id).first()


def _post(payout: Payout, cents: int, *, kind: str, reference: str, by: str) -> None:
    """Post so many cents from a provider's balance to what was sent; negative ones go back."""
    name = ledger_names(payout.account)[payout.currency]
    fund = ledger.fund_name(PAYOUTS, payout.currency)
    LedgerAccount.objects.get_or_create(name=fund, defaults={"currency": payout.currency})
    amount = cents * NANOS_PER_CENT
    ledger.post(kind=kind, reference=reference, by=by, amounts={name: -amount, fund: amount})
