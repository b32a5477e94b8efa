"""Give payments back: by us, or found out when somebody did so at the provider."""

from typing import Final
from uuid import NAMESPACE_URL, UUID, uuid5

from django.db import transaction

from billing import outbox
from billing.customers import check_not_frozen, lock_customer
from billing.errors import RefundTooLarge
from billing.ledger import grant_credit
from billing.models import CreditGrant, CreditReversal, OutboxRow, PaymentRefund, TopUp
from billing.money import NANOS_PER_CENT, Nanos
from billing.providers.base import RefundState
from billing.reversals import reverse_credit
from billing.sums import total_of

Status = PaymentRefund.Status
# Forward only. Last is failed: banks send money back that had seemed taken.
_RANK: Final = {Status.PENDING: 0, Status.SUCCEEDED: 1, Status.FAILED: 2}
# The provider's words; others are on their way.
REFUND_STATES: Final = {"succeeded": Status.SUCCEEDED, "failed": Status.FAILED, "canceled": Status.FAILED}


@transaction.atomic
def refund_top_up(top_up: TopUp, amount_cents: int, *, reason: str, reference: UUID, by: str) -> tuple[PaymentRefund, OutboxRow]:
    """Give a payment back to its card, in part or in full; return the refund and the row that asks for it.

    The credit goes first, in this commit, so that nobody spends it while the provider is asked;
    it comes back if the provider refuses. Safe to repeat: one refund per reference.

    Raises:
        RefundTooLarge: more than is left of the payment, or of unspent credit. Nothing was taken.
        PaymentsFrozen: a payment of the account is disputed. Nothing was taken.
    """
    customer = lock_customer(top_up.account)
    found = PaymentRefund.objects.filter(pk=reference).first()
    if found is None:
        check_not_frozen(customer)
        left = refundable_cents(top_up)
        if not 0 < amount_cents <= left:
            raise RefundTooLarge(asked_cents=amount_cents, left_cents=left)
        found = PaymentRefund.objects.create(id=reference, top_up=top_up, amount_cents=amount_cents, reason=reason[:200], by=by)
        _take_credit(found, may_owe=False)
    row = outbox.enqueue(
        top_up.account,
        kind="refund.create",
        subject=found.pk,
        parameters={"payment": top_up.payment_id, "amount_cents": found.amount_cents},
    )
    return found, row


def refundable_cents(top_up: TopUp) -> int:
    """Return what is left of a payment to give back; none where it was not paid."""
    if top_up.status != TopUp.Status.PAID:
        return 0
    return top_up.amount_cents - total_of(top_up.refunds.exclude(status=Status.FAILED), "amount_cents")


@transaction.atomic
def apply_refund(state: RefundState) -> bool:
    """Move a refund to what the provider says; one made at the provider is recorded. False where it is not ours."""
    top_up = TopUp.objects.select_related("account").filter(payment_id=state.payment).exclude(payment_id="").first()
    if top_up is None:
        return False
    lock_customer(top_up.account)
    refund = _find(top_up, state)
    if refund is None:
        refund = PaymentRefund.objects.create(
            id=uuid5(NAMESPACE_URL, f"stripe:{state.id}"),  # So that two who hear of it at once make one row.
            top_up=top_up,
            amount_cents=state.amount_cents,
            refund_id=state.id,
            reason="Refunded at the provider.",
            by="payments",
        )
        _take_credit(refund, may_owe=True)  # The money is gone, whether or not its credit was spent.
    if not refund.refund_id:
        refund.refund_id = state.id
        refund.save(update_fields=["refund_id"])
    _move(refund, REFUND_STATES.get(state.status, Status.PENDING), failure=state.status)
    return True


@transaction.atomic
def fail_refund(refund: PaymentRefund, *, failure: str) -> None:
    """Note that a refund was not made; its credit comes back."""
    lock_customer(refund.top_up.account)
    _move(PaymentRefund.objects.get(pk=refund.pk), Status.FAILED, failure=failure)


def is_forward(before: str, after: PaymentRefund.Status) -> bool:
    """Whether a refund moves from one state to another, and not back."""
    return _RANK[Status(before)] < _RANK[after]


def _find(top_up: TopUp, state: RefundState) -> PaymentRefund | None:
    by_reference = top_up.refunds.filter(pk=state.reference).first() if state.reference else None
    return by_reference or top_up.refunds.filter(refund_id=state.id).first()


def _move(refund: PaymentRefund, status: PaymentRefund.Status, *, failure: str) -> None:
    if not is_forward(refund.status, status):
        return
    refund.status = status
    if status == Status.FAILED:
        refund.failure = failure[:300]
        amount = Nanos(refund.amount_cents * NANOS_PER_CENT)
        grant_credit(refund.top_up.account, amount, kind=CreditGrant.Kind.TOP_UP, reference=f"refund_failed:{refund.pk}", by="payments")
    refund.save(update_fields=["status", "failure"])


def _take_credit(refund: PaymentRefund, *, may_owe: bool) -> None:
    reverse_credit(
        refund.top_up.account,
        refund.amount_cents,
        kind=CreditReversal.Kind.REFUND,
        reference=f"refund:{refund.pk}",
        by=refund.by,
        may_owe=may_owe,
    )
