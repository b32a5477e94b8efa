"""Credit that expires: what is left of each grant now, and taking what nobody spent in time."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db import Error, transaction
from django.db.models import Exists, F, OuterRef
from django.utils import timezone

from billing import ledger
from billing.credits import Event, Expired, Granted, Reversed, split_spending
from billing.models import Account, Budget, CreditExpiry, CreditGrant, CreditReversal
from billing.periods import EPOCH

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantState:
    """A grant, and what of it could still be spent."""

    grant: CreditGrant
    left_nanos: int
    expired_nanos: int  # What left the account, unspent.

    @property
    def used_nanos(self) -> int:
        """What calls or refunds of its payment took."""
        return self.grant.amount_nanos - self.left_nanos - self.expired_nanos


def list_grants(account: Account) -> list[GrantState]:
    """Return an account's grants in the order in which they are used, with what is left of each; what is held counts as left."""
    budget = Budget.objects.get(account=account, subject=ledger.ACCOUNT_SUBJECT, starts_at=EPOCH)
    events, grants, expiries = _history(account)
    left = split_spending(events, budget.spent_nanos).left
    expired: dict[object, int] = {}
    for expiry in expiries:
        expired[expiry.grant_id] = expired.get(expiry.grant_id, 0) + expiry.amount_nanos
    ordered = sorted(grants, key=lambda grant: _granted(grant).order)
    return [GrantState(grant=grant, left_nanos=left[grant.pk], expired_nanos=expired.get(grant.pk, 0)) for grant in ordered]


def expire_due(*, now: datetime | None = None) -> int:
    """Take from every account what has expired and is neither spent nor held; return how many grants lost some.

    Safe to run twice, or at the same time as itself. What a call holds at that moment is left to it; what that gives
    back is taken by the next run.
    """
    moment = now or timezone.now()
    settled = CreditExpiry.objects.filter(grant=OuterRef("pk"), is_final=True)
    due = CreditGrant.objects.filter(expires_at__lte=moment).exclude(Exists(settled))
    taken = 0
    for account in Account.objects.filter(pk__in=due.values("account")).order_by("pk"):
        try:
            taken += _expire(account, [grant.pk for grant in due.filter(account=account)])
        except Error as error:  # The next run tries again; the others need not wait for it.
            log.warning("Credit of the account %s could not be expired: %s", account.pk, error)
    return taken


@transaction.atomic
def _expire(account: Account, due: Sequence[object]) -> int:
    """Take what is left of an account's expired grants."""
    # Locked: neither a lease nor a settlement nor another run comes between what is read and what is written.
    budget = Budget.objects.select_for_update().get(account=account, subject=ledger.ACCOUNT_SUBJECT, starts_at=EPOCH)
    taken = 0
    events, grants, expiries = _history(account)
    settled = {expiry.grant_id for expiry in expiries if expiry.is_final}
    for grant in sorted(grants, key=lambda grant: _granted(grant).order):
        if grant.pk not in due or grant.pk in settled:
            continue
        # As if all that is held were spent, in the order in which it would be.
        amount = split_spending(events, budget.spent_nanos + budget.leased_nanos).left[grant.pk]
        is_final = split_spending(events, budget.spent_nanos).left[grant.pk] == amount
        if not amount and not is_final:
            continue
        if amount:
            _take(budget, amount)
            taken += 1
        number = sum(expiry.grant_id == grant.pk for expiry in expiries)
        _record(account, grant, amount, budget.spent_nanos, number=number, is_final=is_final)
        events.append(Expired(id=grant.pk, amount_nanos=amount, at_spent=budget.spent_nanos))
    return taken


def _take(budget: Budget, amount: int) -> None:
    """Lower the balance by one conditional UPDATE: what is spent or leased is never taken.

    Raises:
        Error: it would be. The transaction is rolled back.
    """
    free = Budget.objects.filter(pk=budget.pk, limit_nanos__gte=F("spent_nanos") + F("leased_nanos") + amount)
    if not free.update(limit_nanos=F("limit_nanos") - amount):
        message = f"{amount} nanos of the budget {budget.pk} are spent or held."
        raise Error(message)


def _record(account: Account, grant: CreditGrant, amount: int, spent: int, *, number: int, is_final: bool) -> None:
    posted = None
    if amount:
        back = {ledger.credit_account_name(account): -amount, ledger.fund_of(grant): amount}
        posted = ledger.post(kind="expiry", reference=f"expiry:{grant.pk}:{number}", by="system", amounts=back, owner=account)
    CreditExpiry.objects.create(
        account=account, grant=grant, amount_nanos=amount, spent_before_nanos=spent, is_final=is_final, transaction=posted
    )


def _history(account: Account) -> tuple[list[Event], list[CreditGrant], list[CreditExpiry]]:
    """Return all that happened to an account's credit in the order in which it did, and the rows of it."""
    grants = list(CreditGrant.objects.filter(account=account))
    expiries = list(CreditExpiry.objects.filter(account=account))
    dated: list[tuple[datetime, str, Event]] = [(grant.created_at, str(grant.pk), _granted(grant)) for grant in grants]
    for expiry in expiries:
        event = Expired(id=expiry.grant_id, amount_nanos=expiry.amount_nanos, at_spent=expiry.spent_before_nanos)
        dated.append((expiry.created_at, str(expiry.pk), event))
    reversals = CreditReversal.objects.filter(account=account)
    dated += [(one.created_at, str(one.pk), Reversed(amount_nanos=one.amount_nanos)) for one in reversals]
    return [event for _, _, event in sorted(dated, key=lambda entry: entry[:2])], grants, expiries


def _granted(grant: CreditGrant) -> Granted:
    return Granted(
        id=grant.pk,
        amount_nanos=grant.amount_nanos,
        at_spent=grant.spent_before_nanos,
        granted_at=grant.created_at,
        expires_at=grant.expires_at,
        priority=grant.priority,
        is_paid=grant.kind in {CreditGrant.Kind.TOP_UP, CreditGrant.Kind.INVOICE},
    )
