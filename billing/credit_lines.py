"""What an account may owe: a part of its budget's limit, so that the leases that keep a balance keep this, too.

limit = grants - reversals + credit line. An unpaid invoice withdraws the line, a payment gives it
back: both by one UPDATE of the limit, in the commit of what caused them, so that a gateway's next
lease finds it.
"""

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from billing import ledger
from billing.customers import ensure_customer
from billing.errors import CreditLineInvalid, PaymentsOff
from billing.fees import lock_credit
from billing.models import Account, Budget
from billing.money import MAX_AMOUNT
from billing.periods import EPOCH
from billing.providers import collects_money


@transaction.atomic
def set_credit_line(account: Account, line_nanos: int) -> Account:
    """Have an account pay afterwards, up to a line; 0 makes it prepaid again. What it owes already is still collected, at the month's close.

    Raises:
        PaymentsOff: nobody collects money here, so nobody could pay afterwards. Nothing was changed.
        CreditLineInvalid: the amount is out of range. Nothing was changed.
    """
    if not 0 <= line_nanos <= MAX_AMOUNT:
        message = "A credit line is 0 or more."
        raise CreditLineInvalid(message)
    if line_nanos and not collects_money():
        message = "This site collects no money."
        raise PaymentsOff(message)
    account = _lock(account)
    before = account.usable_line_nanos
    if account.credit_line_nanos and not line_nanos:
        account.line_ended_at = timezone.now()
    account.credit_line_nanos = line_nanos
    account.save(update_fields=["credit_line_nanos", "line_ended_at"])
    _move_limit(account, account.usable_line_nanos - before)
    if line_nanos:
        ensure_customer(account)
    return account


def withdraw_line(account: Account) -> bool:
    """Stop an account's line: without credit its calls are refused from their next lease on. False where it was stopped. In a transaction."""
    account = _lock(account)
    if account.line_withdrawn_at is not None:
        return False
    before = account.usable_line_nanos
    account.line_withdrawn_at = timezone.now()
    account.save(update_fields=["line_withdrawn_at"])
    _move_limit(account, -before)
    return True


def restore_line(account: Account) -> bool:
    """Give an account its line again. False where it had it. In a transaction."""
    account = _lock(account)
    if account.line_withdrawn_at is None:
        return False
    account.line_withdrawn_at = None
    account.save(update_fields=["line_withdrawn_at"])
    _move_limit(account, account.usable_line_nanos)
    return True


def _lock(account: Account) -> Account:
    lock_credit(account)  # Before the account, as renewals and refunds do.
    return Account.objects.get(pk=account.pk)


def _move_limit(account: Account, by_nanos: int) -> None:
    if by_nanos:
        budget = Budget.objects.filter(account=account, subject=ledger.ACCOUNT_SUBJECT, starts_at=EPOCH)
        budget.update(limit_nanos=F("limit_nanos") + by_nanos)
