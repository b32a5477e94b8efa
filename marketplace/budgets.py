"""The budgets of an organization: its balance, its caps and those of its keys; what is used of each, and setting them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from billing.ids import parse_public_id, public_id
from billing.models import Budget
from billing.money import MAX_AMOUNT
from billing.periods import EPOCH, period_of
from marketplace import audit
from marketplace.changes import key_changed, organization_changed
from marketplace.errors import RequestMalformed, ScopeMissing
from marketplace.keys import check_may_raise, set_monthly_cap
from marketplace.models import ApiKey, Cap, Organization, User
from marketplace.models.caps import BALANCE, DEFAULT_THRESHOLDS, INTERVALS, BudgetName, is_capped, name_of

# Percentages that one budget may name.
MAX_THRESHOLDS: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetState:
    """One budget as it stands now. Money in nanos."""

    name: BudgetName
    key: ApiKey | None  # The newest of those that share the cap.
    limit_nanos: int | None  # None: no cap is set.
    spent_nanos: int
    held_nanos: int  # Leased: for running calls, and for those to come in the next second.
    starts_at: datetime | None  # None: total.
    resets_at: datetime | None
    thresholds: Sequence[int]
    currency: str

    @property
    def id(self) -> str:
        """How the outside names it: "balance", "organization_day", "key_..._month"."""
        if self.name == BALANCE:
            return "balance"
        holder = public_id("key", self.key.pk) if self.key else "organization"
        return f"{holder}_{self.name.interval}"

    @property
    def left_nanos(self) -> int | None:
        """What could be leased now; None without a limit."""
        return None if self.limit_nanos is None else max(0, self.limit_nanos - self.spent_nanos - self.held_nanos)

    @property
    def percent(self) -> float:
        """How full it is, 0 to 100: what is spent, without what is held."""
        if not self.limit_nanos:
            return 0 if self.limit_nanos is None else 100
        return min(100.0, int(1000 * self.spent_nanos / self.limit_nanos) / 10)


def list_budgets(organization: Organization, *, key: ApiKey | None = None) -> list[BudgetState]:
    """Return the balance, the organization's budgets, and those of its keys that have a limit; of one key, all of its own."""
    newest = _newest_keys(organization, key)
    if key is not None:
        names = [BudgetName("key", interval, key.cap_id) for interval in INTERVALS]
    else:
        names = [BALANCE, *(BudgetName("organization", interval) for interval in INTERVALS)]
        names += [BudgetName("key", interval, cap_id) for cap_id in newest for interval in INTERVALS]
    states = _read(organization, names, newest)
    return [state for state in states if state.name.holder != "key" or key is not None or state.limit_nanos is not None]


def find_budget(organization: Organization, budget_id: str) -> BudgetState | None:
    """Return the budget of a public id, with or without a limit; None where the organization has none such."""
    if budget_id == "balance":
        return _read(organization, [BALANCE], {})[0]
    holder, _, interval = budget_id.rpartition("_")
    if interval not in INTERVALS:
        return None
    if holder == "organization":
        return _read(organization, [BudgetName("organization", interval)], {})[0]
    identity = parse_public_id("key", holder)
    key = organization.keys.issued().filter(pk=identity).first() if identity else None
    if key is None:
        return None
    return _read(organization, [BudgetName("key", interval, key.cap_id)], {key.cap_id: key})[0]


def find_by_subject(organization: Organization, subject: str) -> BudgetState:
    """Return the budget that billing calls so, with the newest of the keys that share it."""
    name = name_of(subject)
    newest = organization.keys.filter(cap_id=name.cap_id).order_by("-created_at").first() if name.cap_id else None
    return _read(organization, [name], {newest.cap_id: newest} if newest else {})[0]


@transaction.atomic
def set_limit(organization: Organization, budget: BudgetState, *, limit_nanos: int | None, by: User | ApiKey) -> None:
    """Set or lift a cap; gateways keep to it within a second. Below what is spent, it stops calls at once.

    A total cap counts what is spent while it is set, from its first setting on.

    Raises:
        RequestMalformed: it is the balance, whose limit is its credit, or the amount is too large. Nothing was changed.
        ScopeMissing: `by` is a key that may lower this cap, but not raise or lift it. Nothing was changed.
    """
    if budget.name == BALANCE:
        message = "The balance's limit is its credit: top up instead."
        raise RequestMalformed(message, param="limit")
    if limit_nanos is not None and limit_nanos > MAX_AMOUNT:
        message = "The limit is too large."
        raise RequestMalformed(message, param="limit")
    if budget.key is not None and budget.name.interval == "month":
        set_monthly_cap(budget.key, cap_nanos=limit_nanos, by=by)
        return
    cap = _lock(organization, budget.name)
    before = cap.limit_nanos
    if isinstance(by, ApiKey) and (limit_nanos is None or (before is not None and limit_nanos > before)):
        _check_may_lift(budget, before, by)
    cap.limit_nanos = limit_nanos
    cap.save(update_fields=["limit_nanos"])
    _tell_gateways(organization, budget)
    details = {"budget": budget.id, "from_nanos": before, "to_nanos": limit_nanos}
    audit.record(organization, action="budget.limit_set", target=budget.key or organization, by=by, details=details)


@transaction.atomic
def set_thresholds(organization: Organization, budget: BudgetState, thresholds: Sequence[int], *, by: User | ApiKey) -> None:
    """Set at which percentages of a budget the organization is told; none: never.

    Raises:
        RequestMalformed: they are not 1 to 100, or too many. Nothing was changed.
    """
    wanted = sorted(set(thresholds))
    if len(wanted) > MAX_THRESHOLDS or any(not 1 <= percent <= 100 for percent in wanted):
        message = f"Send at most {MAX_THRESHOLDS} percentages from 1 to 100."
        raise RequestMalformed(message, param="thresholds")
    cap = _lock(organization, budget.name)
    before, cap.thresholds = cap.thresholds, wanted
    cap.save(update_fields=["thresholds"])
    details = {"budget": budget.id, "from": before, "to": wanted}
    audit.record(organization, action="budget.thresholds_set", target=budget.key or organization, by=by, details=details)


def _lock(organization: Organization, name: BudgetName) -> Cap:
    """Return the row of a budget, made now if it is new, locked: of two changes at once, each sees what the other left."""
    Cap.objects.get_or_create(organization=organization, subject=name.subject)
    return Cap.objects.select_for_update().get(organization=organization, subject=name.subject)


def _check_may_lift(budget: BudgetState, before: int | None, by: ApiKey) -> None:
    if before is None:  # Nothing is lifted that was not there.
        return
    if budget.key is not None:
        check_may_raise(budget.key, by=by)
    elif is_capped(by):
        message = "This API key has a cap itself, so it may only lower caps."
        raise ScopeMissing(message)


def _tell_gateways(organization: Organization, budget: BudgetState) -> None:
    if budget.key is None:
        organization_changed(organization)
        return
    for key in ApiKey.objects.filter(cap_id=budget.key.cap_id):  # A rotated key and the one before it share their caps.
        key_changed(key)


def _newest_keys(organization: Organization, key: ApiKey | None) -> dict[UUID, ApiKey]:
    """Return by cap the key that it is shown with; of all live keys, or of one."""
    if key is not None:
        return {key.cap_id: key}
    return {key.cap_id: key for key in organization.keys.live().issued().filter(livemode=True).order_by("created_at")}


def _read(organization: Organization, names: Sequence[BudgetName], keys: Mapping[UUID, ApiKey]) -> list[BudgetState]:
    now = timezone.now()
    subjects = [name.subject for name in names]
    caps = {cap.subject: cap for cap in Cap.objects.filter(organization=organization, subject__in=subjects)}
    running = Budget.objects.filter(account=organization.account_id, subject__in=subjects).filter(Q(ends_at=None) | Q(ends_at__gt=now))
    rows = {row.subject: row for row in running.filter(starts_at__lte=now)}
    return list(_states(names, caps, rows, keys, now=now, currency=organization.account.currency))


def _states(
    names: Sequence[BudgetName],
    caps: Mapping[str, Cap],
    rows: Mapping[str, Budget],
    keys: Mapping[UUID, ApiKey],
    *,
    now: datetime,
    currency: str,
) -> Iterator[BudgetState]:
    for name in names:
        cap, row = caps.get(name.subject), rows.get(name.subject)
        key = keys.get(name.cap_id) if name.cap_id else None
        limit = cap.limit_nanos if cap else None
        if name == BALANCE:
            limit = row.limit_nanos if row else 0
        elif key is not None and name.interval == "month":
            limit = key.monthly_cap_nanos
        starts_at, resets_at = period_of(name.interval, now)
        yield BudgetState(
            name=name,
            key=key,
            limit_nanos=limit,
            spent_nanos=row.spent_nanos if row else 0,
            held_nanos=row.leased_nanos if row else 0,
            starts_at=None if starts_at == EPOCH else starts_at,
            resets_at=resets_at,
            thresholds=cap.thresholds if cap else DEFAULT_THRESHOLDS,
            currency=currency,
        )
