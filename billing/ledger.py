"""Accounts and their credit. Money moves by double entry; each movement is posted once.

Ledger accounts: `credit:<account id>` is what an account may still spend, less what is not yet
posted; `promotion`, `operator` and `payments` are where grants come from; `revenue` is what the site keeps
of usage, `provider:<account id>` what a provider of models earned and was not sent. See docs/ledger.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from django.db import IntegrityError, transaction
from django.db.models import F

from billing.credits import DEFAULT_PRIORITY
from billing.errors import CreditPoolEmpty, GrantConflict
from billing.ids import uuid7
from billing.models import Account, Budget, CreditGrant, CreditPool, LedgerAccount, LedgerEntry, LedgerTransaction
from billing.money import CURRENCY, MAX_AMOUNT, Nanos
from billing.periods import EPOCH
from billing.sums import total_of

# The subject of the budget that is an account's whole credit.
ACCOUNT_SUBJECT: Final = "account"
REVENUE: Final = "revenue"
# What the payment provider has collected for us, less what it gave back, with the sign turned.
PAYMENTS: Final = "payments"
_FUNDS: Final = {
    CreditGrant.Kind.FREE: "promotion",
    CreditGrant.Kind.OPERATOR: "operator",
    CreditGrant.Kind.TOP_UP: PAYMENTS,
    CreditGrant.Kind.REBATE: REVENUE,
    CreditGrant.Kind.INVOICE: PAYMENTS,
    CreditGrant.Kind.NOTE: REVENUE,
    CreditGrant.Kind.WAIVED: REVENUE,
}
_FREE_POOL: Final = "free"


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """An account's credit, in nanos."""

    granted: Nanos
    spent: Nanos  # Settled and not refunded.
    held: Nanos  # Leased to gateways: for running calls, and for those to come in the next second.
    available: Nanos  # What could be leased now.


@transaction.atomic
def open_account(*, name: str, currency: str = CURRENCY) -> Account:
    """Create an account with an empty budget: it can pay once it was granted credit."""
    account = Account.objects.create(name=name, currency=currency)
    Budget.objects.create(account=account, subject=ACCOUNT_SUBJECT, interval=Budget.Interval.TOTAL, starts_at=EPOCH, limit_nanos=0)
    return account


def grant_credit(
    account: Account,
    amount_nanos: Nanos,
    *,
    kind: str,
    reference: str,
    by: str,
    expires_at: datetime | None = None,
    priority: int = DEFAULT_PRIORITY,
) -> CreditGrant:
    """Give an account credit; it can be spent at once. Safe to repeat: one grant per reference.

    Args:
        account: Who gets it.
        amount_nanos: More than 0.
        kind: "operator", "top_up", "invoice", or "rebate", "note", "waived" out of the revenue.
            Free credit comes out of its pool: `grant_free_credit`.
        reference: What the grant is for, unique among all grants.
        by: Who gives it.
        expires_at: When what is unspent of it leaves (`expiring.py`); None: never.
        priority: 0 is used first, 100 last; among equals what expires sooner.

    Raises:
        GrantConflict: the reference was used for another account or amount. Nothing was granted.
        ValueError: the amount, the kind or the priority cannot be. Nothing was granted.
    """
    _check_amount(amount_nanos)
    if not 0 <= priority <= 100:
        message = f"A priority of {priority} is not within 0..100."
        raise ValueError(message)
    if kind == CreditGrant.Kind.FREE:
        message = "Free credit is granted out of its pool."
        raise ValueError(message)
    try:
        with transaction.atomic():
            return _find_grant(account, amount_nanos, reference) or _grant(
                account, amount_nanos, CreditGrant.Kind(kind), reference, by, expires_at=expires_at, priority=priority
            )
    except IntegrityError:  # Another gave it since we looked.
        found = _find_grant(account, amount_nanos, reference)
        if found is None:
            raise
        return found


def grant_free_credit(
    account: Account, *, amount_nanos: Nanos, pool_limit_nanos: Nanos, reference: str, expires_at: datetime | None = None
) -> CreditGrant:
    """Give an account credit out of the finite pool of free credit. Safe to repeat: one grant per reference.

    Args:
        account: Who gets it.
        amount_nanos: More than 0.
        pool_limit_nanos: All free credit that may ever be given. Lowered below what was given, it stops there.
        reference: What the grant is for, unique among all grants.
        expires_at: When what is unspent of it leaves; None: never.

    Raises:
        CreditPoolEmpty: the pool has too little left. Nothing was granted.
        GrantConflict: the reference was used for another account or amount. Nothing was granted.
        ValueError: the amount is out of range. Nothing was granted.
    """
    _check_amount(amount_nanos)
    try:
        with transaction.atomic():
            found = _find_grant(account, amount_nanos, reference)
            if found is not None:
                return found
            _draw_from_pool(fund_name(_FREE_POOL, account.currency), amount_nanos, pool_limit_nanos)
            return _grant(account, amount_nanos, CreditGrant.Kind.FREE, reference, "system", expires_at=expires_at)
    except IntegrityError:  # Another gave it since we looked; what we drew is rolled back.
        found = _find_grant(account, amount_nanos, reference)
        if found is None:
            raise
        return found


def balance(account: Account) -> Balance:
    """Return what an account was granted, has spent, has on hold, and may still spend."""
    budget = Budget.objects.get(account=account, subject=ACCOUNT_SUBJECT, starts_at=EPOCH)
    left = budget.limit_nanos - budget.spent_nanos - budget.leased_nanos
    line = Account.objects.get(pk=account.pk).usable_line_nanos
    return Balance(
        granted=Nanos(budget.limit_nanos - line),
        spent=Nanos(budget.spent_nanos),
        held=Nanos(budget.leased_nanos),
        available=Nanos(max(0, left)),
    )


def post(*, kind: str, reference: str, by: str, amounts: Mapping[str, int], owner: Account | None = None) -> LedgerTransaction:
    """Post one transaction: amounts by ledger account name, which must sum to zero. In a transaction.

    Args:
        kind: "grant", "usage".
        reference: Unique among all transactions.
        by: Who did it.
        amounts: What comes into (positive) or leaves (negative) each ledger account, made on first use.
        owner: Whose the `credit:` account among them is.

    Raises:
        IntegrityError: the reference was used, or the amounts do not balance. Nothing was posted.
    """
    posted = LedgerTransaction(id=uuid7(), kind=kind, reference=reference, by=by)
    accounts = {account.name: account for account in LedgerAccount.objects.filter(name__in=list(amounts))}
    accounts |= {name: _ledger_account(name, owner) for name in amounts if name not in accounts}
    # Entries first: the trigger on the transaction row sums them up and refuses what does not balance.
    LedgerEntry.objects.bulk_create(
        LedgerEntry(transaction=posted, ledger_account=accounts[name], amount_nanos=amount) for name, amount in amounts.items()
    )
    posted.save(force_insert=True)
    return posted


def fund_name(fund: str, currency: str) -> str:
    """Return the ledger account of a fund or of the revenue in a currency: "revenue", "revenue:eur". Currencies never mix."""
    return fund if currency == CURRENCY else f"{fund}:{currency}"


def credit_account_name(account: Account) -> str:
    """Return the name of the ledger account that is an account's credit."""
    return f"credit:{account.pk}"


def provider_account_name(account: Account, *, currency: str = "") -> str:
    """Return the name of the ledger account that is what a provider of models has earned and not been sent.

    In its own currency, or in that of its callers: "provider:<account id>:eur".
    """
    name = f"provider:{account.pk}"
    return name if currency in {"", account.currency} else f"{name}:{currency}"


def ledger_balance(name: str) -> Nanos:
    """Return what a ledger account holds: the fold of its entries."""
    return Nanos(total_of(LedgerEntry.objects.filter(ledger_account__name=name), "amount_nanos"))


def _ledger_account(name: str, owner: Account | None) -> LedgerAccount:
    is_credit = name.startswith("credit:")
    facts = {"account": owner if is_credit else None, "currency": owner.currency if owner else CURRENCY}
    return LedgerAccount.objects.get_or_create(name=name, defaults=facts)[0]


def _check_amount(amount_nanos: int) -> None:
    if not 0 < amount_nanos <= MAX_AMOUNT:
        message = f"A grant of {amount_nanos} nanos is out of range."
        raise ValueError(message)


def _find_grant(account: Account, amount_nanos: int, reference: str) -> CreditGrant | None:
    found = CreditGrant.objects.filter(reference=reference).first()
    if found is not None and (found.account_id, found.amount_nanos) != (account.pk, amount_nanos):
        raise GrantConflict(reference=reference)
    return found


def fund_of(grant: CreditGrant) -> str:
    """Return the ledger account that what is unspent of a grant goes to: back where gifts come from; of others it is earned."""
    fund = _FUNDS[CreditGrant.Kind(grant.kind)]
    return fund_name(REVENUE if fund == PAYMENTS else fund, grant.account.currency)


def _grant(
    account: Account,
    amount_nanos: int,
    kind: CreditGrant.Kind,
    reference: str,
    by: str,
    *,
    expires_at: datetime | None = None,
    priority: int = DEFAULT_PRIORITY,
) -> CreditGrant:
    amounts = {fund_name(_FUNDS[kind], account.currency): -amount_nanos, credit_account_name(account): amount_nanos}
    posted = post(kind="grant", reference=f"grant:{reference}", by=by, amounts=amounts, owner=account)
    budget = Budget.objects.filter(account=account, subject=ACCOUNT_SUBJECT, starts_at=EPOCH)
    budget.update(limit_nanos=F("limit_nanos") + amount_nanos)
    return CreditGrant.objects.create(
        account=account,
        amount_nanos=amount_nanos,
        kind=kind,
        reference=reference,
        by=by,
        transaction=posted,
        expires_at=expires_at,
        priority=priority,
        spent_before_nanos=budget.values_list("spent_nanos", flat=True).get(),  # Of a row that our UPDATE has locked.
    )


def _draw_from_pool(name: str, amount_nanos: int, limit_nanos: int) -> None:
    """Take from the pool by one conditional UPDATE: a flood of sign-ups cannot overdraw it."""
    pool, is_new = CreditPool.objects.get_or_create(name=name, defaults={"limit_nanos": limit_nanos})
    if not is_new and pool.limit_nanos != limit_nanos:  # The operator changed the setting.
        CreditPool.objects.filter(pk=pool.pk, granted_nanos__lte=limit_nanos).update(limit_nanos=limit_nanos)
        CreditPool.objects.filter(pk=pool.pk, granted_nanos__gt=limit_nanos).update(limit_nanos=F("granted_nanos"))
    drawn = CreditPool.objects.filter(pk=pool.pk, granted_nanos__lte=F("limit_nanos") - amount_nanos)
    if not drawn.update(granted_nanos=F("granted_nanos") + amount_nanos):
        pool.refresh_from_db()
        raise CreditPoolEmpty(pool=pool.name, left_nanos=pool.limit_nanos - pool.granted_nanos, asked_nanos=amount_nanos)
