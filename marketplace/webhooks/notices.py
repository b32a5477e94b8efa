"""What nobody's deed sets off: budgets that fill up, keys that are about to expire. Looked for every minute, told once."""

from datetime import timedelta
from typing import Final

from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q
from django.utils import timezone

from billing.agreements import QUOTA_PREFIX
from billing.ids import public_id
from billing.models import Budget
from billing.periods import render_moment
from marketplace.budgets import find_by_subject
from marketplace.models import ApiKey, Cap, Notice, Organization, RequestLog
from marketplace.models.caps import BALANCE, DEFAULT_THRESHOLDS, INTERVALS, BudgetName
from marketplace.objects.budgets import BudgetView
from marketplace.webhooks.outbox import emit

# A key's organization is told so long before it expires.
KEY_NOTICE: Final = timedelta(days=7)
# How far back a refusal for lack of money counts: a little more than a round.
_REFUSED: Final = timedelta(minutes=5)


def look() -> int:
    """Tell of each threshold that a budget has passed and of each key that expires soon, once; return how many were told."""
    return _look_at_budgets() + _look_at_keys()


def _look_at_budgets() -> int:
    now = timezone.now()
    running = Budget.objects.filter(Q(ends_at__isnull=True) | Q(ends_at__gt=now), starts_at__lte=now, limit_nanos__gt=0)
    running = running.exclude(subject__startswith=QUOTA_PREFIX)  # Its amounts are units: the Billing page shows them.
    refused = set(_refused_budgets())
    # Half is the first threshold where nobody set others: what is below it is not even read.
    own = Cap.objects.filter(organization__account=OuterRef("account"), subject=OuterRef("subject"))
    filled = running.filter(Q(spent_nanos__gte=F("limit_nanos") / 2) | Q(pk__in=refused) | (Q(spent_nanos__gt=0) & Exists(own)))
    filled = filled.select_related("account__organization")
    told = 0
    for budget in filled.iterator(chunk_size=500):
        organization: Organization | None = getattr(budget.account, "organization", None)
        if organization is None:
            continue
        percent = 100 if budget.pk in refused else budget.spent_nanos * 100 // budget.limit_nanos
        cap = Cap.objects.filter(organization=organization, subject=budget.subject).first()
        passed = [threshold for threshold in (cap.thresholds if cap else DEFAULT_THRESHOLDS) if percent >= threshold]
        if passed:
            told += _tell_budget(organization, budget, passed)
    return told


def _refused_budgets() -> list[int]:
    """Return the budgets that calls were refused by just now: too little was left in them, if not nothing."""
    since = timezone.now() - _REFUSED
    refused = (
        RequestLog.objects.filter(code="budget_exceeded", occurred_at__gte=since)
        .values_list("key__organization__account", "key__cap_id")
        .distinct()
    )
    found: list[int] = []
    for account_id, cap_id in refused[:1000]:
        names = [BALANCE, *(BudgetName(holder, interval, cap_id) for holder in ("organization", "key") for interval in INTERVALS)]
        candidates = Budget.objects.filter(account_id=account_id, subject__in=[name.subject for name in names], limit_nanos__gt=0)
        candidates = candidates.filter(Q(ends_at__isnull=True) | Q(ends_at__gt=timezone.now()))
        # Of those that it was charged to, the one with the least left is why.
        tightest = min(candidates, key=lambda budget: budget.limit_nanos - budget.spent_nanos, default=None)
        if tightest is not None:
            found.append(tightest.pk)
    return found


def _tell_budget(organization: Organization, budget: Budget, passed: list[int]) -> int:
    """Tell of the highest threshold passed, once for each period and limit; the lower ones count as told with it."""
    about = f"budget:{budget.subject}:{budget.starts_at:%Y-%m-%d}:{budget.limit_nanos}"
    with transaction.atomic():
        fresh = [threshold for threshold in passed if _is_first(organization, f"{about}:{threshold}")]
        if not fresh or fresh[-1] != passed[-1]:
            return 0
        event = "budget.exhausted" if passed[-1] == 100 else "budget.threshold"
        state = find_by_subject(organization, budget.subject)
        fields = {**BudgetView(state).data, "threshold_percent": passed[-1]}
        emit(organization, event, fields)
        mail = {**fields, "key_name": state.key.name if state.key else None}
        Notice.objects.filter(organization=organization, about=f"{about}:{passed[-1]}").update(mail=mail)
    return 1


def _look_at_keys() -> int:
    now = timezone.now()
    expiring = ApiKey.objects.filter(expires_at__gt=now, expires_at__lte=now + KEY_NOTICE, revoked_at__isnull=True, playground=False)
    told = 0
    for key in expiring.select_related("organization").iterator(chunk_size=500):
        if key.expires_at is None:
            continue
        with transaction.atomic():
            # The old key of a rotation expires because somebody replaced it: still worth a word if it is in use.
            if not _is_first(key.organization, f"key:{key.pk}:{key.expires_at:%Y-%m-%dT%H:%M:%S}"):
                continue
            fields = {
                "object": "key",
                "id": public_id("key", key.pk),
                "name": key.name,
                "masked": key.masked,
                "livemode": key.livemode,
                "expires_at": render_moment(key.expires_at),
            }
            emit(key.organization, "key.expiring", fields)
        told += 1
    return told


def _is_first(organization: Organization, about: str) -> bool:
    """Remember that something was told; return whether it had not been. Two rounds at once: the constraint decides."""
    if Notice.objects.filter(organization=organization, about=about).exists():
        return False
    return Notice.objects.get_or_create(organization=organization, about=about)[1]
