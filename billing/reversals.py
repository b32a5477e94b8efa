"""Take credit back: its payment was refunded or disputed. Each is posted once."""

from django.db import IntegrityError, transaction
from django.db.models import F

from billing import ledger
from billing.errors import GrantConflict, RefundTooLarge
from billing.models import Account, Budget, CreditReversal
from billing.money import NANOS_PER_CENT
from billing.periods import EPOCH


def reverse_credit(
    account: Account, amount_cents: int, *, kind: CreditReversal.Kind, reference: str, by: str, may_owe: bool
) -> CreditReversal:
    """Take credit from an account. Safe to repeat: one reversal per reference.

    Args:
        account: Whose.
        amount_cents: More than 0.
        kind: Why.
        reference: What it is for, unique among all reversals.
        by: Who does it.
        may_owe: Whether spent or held credit can be taken, too: the balance is then below zero,
            and calls are refused until it is paid up. Without it that is refused.

    Raises:
        RefundTooLarge: less is left than that. Nothing was taken.
        GrantConflict: the reference was used for another account or amount. Nothing was taken.
    """
    try:
        with transaction.atomic():
            return _find(account, amount_cents, reference) or _reverse(account, amount_cents, kind, reference, by, may_owe=may_owe)
    except IntegrityError:  # Another did it since we looked.
        found = _find(account, amount_cents, reference)
        if found is None:
            raise
        return found


def _find(account: Account, amount_cents: int, reference: str) -> CreditReversal | None:
    found = CreditReversal.objects.filter(reference=reference).first()
    if found is not None and (found.account_id, found.amount_nanos) != (account.pk, amount_cents * NANOS_PER_CENT):
        raise GrantConflict(reference=reference)
    return found


def _reverse(account: Account, amount_cents: int, kind: CreditReversal.Kind, reference: str, by: str, *, may_owe: bool) -> CreditReversal:
    amount = amount_cents * NANOS_PER_CENT
    budget = Budget.objects.filter(account=account, subject=ledger.ACCOUNT_SUBJECT, starts_at=EPOCH)
    # One conditional UPDATE: calls that are being leased money meanwhile cannot have the same credit.
    # A credit line is no credit: nobody is paid out what they may only owe.
    line = Account.objects.get(pk=account.pk).usable_line_nanos
    taken = budget if may_owe else budget.filter(limit_nanos__gte=F("spent_nanos") + F("leased_nanos") + amount + line)
    if not taken.update(limit_nanos=F("limit_nanos") - amount):
        raise RefundTooLarge(asked_cents=amount_cents, left_cents=ledger.balance(account).available // NANOS_PER_CENT)
    owed = budget.annotate(owed=F("spent_nanos") - F("limit_nanos") + line).values_list("owed", flat=True)[0]  # Its row is ours by now.
    amounts = {ledger.credit_account_name(account): -amount, ledger.fund_name(ledger.PAYMENTS, account.currency): amount}
    posted = ledger.post(kind="reversal", reference=f"reversal:{reference}", by=by, amounts=amounts, owner=account)
    return CreditReversal.objects.create(
        account=account,
        amount_nanos=amount,
        spent_nanos=min(amount, max(0, owed)),
        kind=kind,
        reference=reference,
        by=by,
        transaction=posted,
    )
