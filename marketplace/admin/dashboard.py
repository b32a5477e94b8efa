"""The operator's front page: what the site does now, and whether its books balance."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import ceil
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from django.conf import settings
from django.core.cache import cache
from django.db.models import Count, F, Sum
from django.http import HttpRequest
from django.utils import timezone

from billing.agreements import QUOTA_PREFIX
from billing.books import find_last_run
from billing.ledger import ACCOUNT_SUBJECT
from billing.models import Account, BooksRun, Budget, GatewayProcess, InvoiceTax, Lease, MeterFault, MeterFeed
from billing.money import CURRENCIES, Nanos, to_decimal_string
from billing.site_hours import used_since
from billing.sql import as_text
from marketplace.admin.facts import show_age, show_money
from marketplace.amounts import SYMBOLS
from marketplace.audit import find_last_check
from marketplace.latency import latency_of_site
from marketplace.models import ApiKey, GatewayReport, Organization, RequestLog
from marketplace.problems import PROBLEMS
from marketplace.site_figures import outbox_age_s

_MINUTES: Final = 60
# A minute's calls have settled so long after it began: one runs for a minute at most, and is written with those beside it.
_MINUTE_OVER: Final = timedelta(minutes=4)
# Accounts that an alarm names.
_NAMED: Final = 10
# A process that has not spoken for so long is taken for dead and reclaimed.
_DEAD_AFTER: Final = timedelta(seconds=10)
_BAR_HEIGHT: Final = 64
# How long the front page tells of what a meter did not count.
_FAULTS_FOR: Final = timedelta(days=7)
# A sweep looks every few seconds: what is later than this is not being sent.
_LATE_S: Final = 300


@dataclass(frozen=True, slots=True)
class Figure:
    """One number of the page."""

    label: str
    value: str
    note: str
    state: str = ""  # "bad" draws it red.


@dataclass(frozen=True, slots=True)
class Bar:
    """One minute of the chart, in the drawing's units."""

    x: int
    answered: int
    refused: int
    title: str

    @property
    def refused_y(self) -> int:
        """Top of the refused part."""
        return _BAR_HEIGHT - self.refused

    @property
    def answered_y(self) -> int:
        """Top of the answered part, which stands on the refused one."""
        return _BAR_HEIGHT - self.refused - self.answered


def add_figures(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG001 (Unfold's signature)
    """Return the front page's context with its figures (Unfold's dashboard callback)."""
    now = timezone.now()
    minutes = _calls_by_minute(now)
    run = find_last_run()
    context |= {
        "alarms": _alarms(run),
        "figures": [
            *_traffic(minutes, now),
            *_money(now),
            books_figure(run),
            Figure("Tasks waiting", _waiting_tasks(), "for Celery"),
            _outbox(now),
        ],
        "bars": _bars(minutes, now),
        "bar_height": _BAR_HEIGHT,
        "busiest": max((answered + refused for answered, refused in minutes.values()), default=0),
        "refusals": _refusals(now) if any(refused for _, refused in minutes.values()) else [],
        "refused_by_gateways": _refused_by_gateways(now),
        "processes": _processes(now),
        "as_of": now,
    }
    return context


def _calls_by_minute(now: datetime) -> dict[datetime, tuple[int, int]]:
    """Return (answered, refused) of each minute of the last hour that had any; those that are over are counted once."""
    this_minute = now.replace(second=0, microsecond=0)
    last = [this_minute - timedelta(minutes=back) for back in reversed(range(_MINUTES))]
    names = {minute: f"calls-of-minute:{minute:%Y%m%d%H%M}" for minute in last}
    kept = cache.get_many(names.values())
    minutes: dict[datetime, tuple[int, int]] = {minute: kept[name] for minute, name in names.items() if name in kept}
    since = next(minute for minute in names if minute not in minutes)  # The running one never is.
    rows = RequestLog.objects.filter(occurred_at__gte=since).annotate(minute=as_text("occurred_at", "2026-11-30 16:59"))
    counted: dict[datetime, tuple[int, int]] = {minute: (0, 0) for minute in names if minute >= since}
    for text, status, calls in rows.values_list("minute", "status").annotate(calls=Count("*")).order_by():
        minute = datetime.fromisoformat(text).replace(tzinfo=UTC)
        answered, refused = counted.get(minute, (0, 0))
        counted[minute] = (answered + calls, refused) if status == 200 else (answered, refused + calls)
    over = {names[minute]: calls for minute, calls in counted.items() if minute in names and now - minute > _MINUTE_OVER}
    cache.set_many(over, timeout=_MINUTES * 60)
    return {minute: calls for minute, calls in (minutes | counted).items() if any(calls)}


def _traffic(minutes: dict[datetime, tuple[int, int]], now: datetime) -> list[Figure]:
    # The running minute is not over: the five before it make a steadier rate.
    last = now.replace(second=0, microsecond=0)
    span = [minutes.get(last - timedelta(minutes=back), (0, 0)) for back in range(1, 6)]
    rate = sum(answered + refused for answered, refused in span) / len(span)
    refused = sum(refused for _, refused in minutes.values())
    total = sum(answered for answered, _ in minutes.values()) + refused
    share = f"{100 * refused / total:.1f} % of calls" if total else "no calls"
    latency = latency_of_site()
    return [
        Figure("Calls per minute", f"{rate:.1f}", "mean of the last 5 minutes"),
        Figure("Refused this hour", str(refused), share),
        Figure(
            "Latency",
            f"{latency.p50_us / 1000:.1f} / {latency.p99_us / 1000:.1f} ms" if latency else "–",
            "p50 / p99 of the last 1,000 answers",
        ),
    ]


def _money(now: datetime) -> list[Figure]:
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    used = used_since(today)
    calls, spend = sum(one.events for one in used.values()), {currency: one.charge_nanos for currency, one in used.items()}
    balances = Budget.objects.filter(subject=ACCOUNT_SUBJECT).order_by().values_list("account__currency")
    left, held = dict(balances.annotate(nanos=Sum(F("limit_nanos") - F("spent_nanos")))), dict(balances.annotate(nanos=Sum("leased_nanos")))
    working = ApiKey.objects.live().issued().count()
    return [
        Figure("Spend today", _rounded(spend), f"{calls:,} charged calls since 00:00 UTC"),
        Figure("Credit outstanding", _rounded(left), f"{_rounded(held)} of it on lease"),
        Figure(
            "Organizations", f"{Organization.objects.count():,}", f"{working:,} keys that work now, live and test, without playgrounds'"
        ),
    ]


def _rounded(amounts: Mapping[str, int]) -> str:
    """Return amounts by currency as short as a tile allows: to the cent from a dollar up, below that exact."""
    shown = [
        f"{SYMBOLS[currency]}{nanos / 10**9:,.2f}" if nanos >= 10**9 else show_money(nanos, currency)
        for currency, nanos in sorted(amounts.items(), key=lambda item: CURRENCIES.index(item[0]))
        if nanos
    ]
    return " + ".join(shown) or show_money(0, settings.CURRENCY)


def books_figure(run: BooksRun | None) -> Figure:
    """Return whether the books balance, as a tile."""
    if run is None:
        return Figure("Books differ by", "–", "not checked yet: that is done once an hour")
    note = run.first or f"every balance equals its facts, checked {show_age(run.finished_at)}"
    return Figure("Books differ by", to_decimal_string(Nanos(run.difference_nanos), places=2), note, state="bad" if run.differences else "")


def _outbox(now: datetime) -> Figure:
    age_s = outbox_age_s(now)
    note = "since the oldest row was due, of payments and webhooks" if age_s else "nothing is overdue"
    return Figure("Outbox late by", f"{age_s:,.0f} s", note, state="bad" if age_s > _LATE_S else "")


def _alarms(run: BooksRun | None) -> list[str]:
    """Return what the operator must look into before anything else."""
    alarms = []
    if run is not None and run.differences:
        alarms.append(f"The books do not balance. Differences found: {run.differences}. The first: {run.first}.")
    stopped = Account.objects.filter(under_review_at__isnull=False).order_by("under_review_at")
    if names := list(stopped.values_list("name", flat=True)[:_NAMED]):
        alarms.append(f"Not charged until you lift their review, since their books do not balance: {', '.join(names)}.")
    alarms += [f"Stripe’s meter {feed} cannot be fed: {feed.failure}" for feed in MeterFeed.objects.exclude(failure="")]
    faults = MeterFault.objects.filter(created_at__gt=timezone.now() - _FAULTS_FOR)
    for code, count in faults.values_list("code").annotate(count=Sum("count")).order_by("code"):
        alarms.append(f"Usage that Stripe’s meters accepted and did not count, in the last week: {count} events, {code}.")
    refused = InvoiceTax.objects.filter(status__in=[InvoiceTax.Status.LOCATION, InvoiceTax.Status.FAILED]).count()
    if refused:
        alarms.append(f"Invoices whose tax Stripe has not said: {refused}. Their pages under Invoices say why.")
    check = find_last_check()
    if check is not None and check.broken_sequence is not None:
        alarms.append(f"The audit chain is broken at event {check.broken_sequence}: {check.words}.")
    return alarms


def _bars(minutes: dict[datetime, tuple[int, int]], now: datetime) -> list[Bar]:
    top = max((answered + refused for answered, refused in minutes.values()), default=0)
    first = now.replace(second=0, microsecond=0) - timedelta(minutes=_MINUTES - 1)
    bars = []
    for index in range(_MINUTES):
        minute = first + timedelta(minutes=index)
        answered, refused = minutes.get(minute, (0, 0))
        bars.append(
            Bar(
                x=index * 10,
                answered=ceil(answered * _BAR_HEIGHT / top) if top else 0,
                refused=ceil(refused * _BAR_HEIGHT / top) if top else 0,
                title=f"{minute:%H:%M} UTC: {answered} answered, {refused} refused",
            )
        )
    return bars


def _refusals(now: datetime) -> list[dict[str, Any]]:
    # By the status first, which is in the index: calls that were answered are not looked up.
    recent = RequestLog.objects.filter(occurred_at__gt=now - timedelta(hours=1), status__gte=400).exclude(code="")
    rows = recent.values_list("code").annotate(calls=Count("pk")).order_by("-calls")[:10]
    return [{"code": code, "calls": calls, "status": PROBLEMS[code].status if code in PROBLEMS else 500} for code, calls in rows]


def _processes(now: datetime) -> list[dict[str, Any]]:
    """Return the gateways that have not ended, with what each holds on lease and last told of itself."""
    rows = GatewayProcess.objects.filter(closed_at__isnull=True, reclaimed_at__isnull=True)
    processes = list(rows.order_by("-started_at")[:20])
    leases = Lease.objects.filter(process__in=processes).exclude(budget__subject__startswith=QUOTA_PREFIX).order_by()
    leased: dict[UUID, dict[str, int]] = defaultdict(dict)
    for process_id, currency, nanos in leases.values_list("process", "budget__account__currency").annotate(nanos=Sum("amount_nanos")):
        leased[process_id][currency] = nanos
    reports = dict(GatewayReport.objects.filter(process__in=processes).values_list("process", "figures"))
    return [
        {
            "id": process.pk.hex[-8:],
            "started": show_age(process.started_at),
            "heartbeat": show_age(process.heartbeat_at),
            "is_alive": now - process.heartbeat_at < _DEAD_AFTER,
            "commits": process.commit_seq,
            "leased": _rounded(leased[process.pk]),
            **_engine_of(reports.get(process.pk)),
        }
        for process in processes
    ]


def _engine_of(figures: dict[str, Any] | None) -> dict[str, str]:
    """Return a process's engine as its row shows it; dashes where it has not told yet."""
    if figures is None:
        return dict.fromkeys(("provider", "workers", "restarts", "queue", "batch_rows", "padding"), "–")
    batches, padded = figures["batches"], figures["padded_tokens"]
    return {
        "provider": figures["provider"].upper() + (f" ({without} without GPU)" if (without := figures.get("cpu_workers")) else ""),
        "workers": str(figures["ready_workers"]),
        "restarts": str(figures["restarts"]),
        "queue": str(figures["queue_rows"]),
        "batch_rows": f"{figures['rows'] / batches:.1f}" if batches else "–",
        "padding": f"{100 * (1 - figures['tokens'] / padded):.1f} %" if padded else "–",
    }


def _refused_by_gateways(now: datetime) -> list[tuple[str, int]]:
    """Return what running gateways refused since they started, strangers' calls included, most frequent first."""
    reports = GatewayReport.objects.filter(process__closed_at__isnull=True, process__heartbeat_at__gt=now - _DEAD_AFTER)
    refused: Counter[str] = Counter()
    for figures in reports.values_list("figures", flat=True):
        refused.update(figures["refused"])
    return refused.most_common(10)


def _waiting_tasks() -> str:
    """Return how many tasks wait in the embedded broker; another broker has tools of its own."""
    if not settings.CELERY_BROKER_URL.startswith("filesystem://"):
        return "in the broker"
    folder = Path(settings.CELERY_BROKER_TRANSPORT_OPTIONS["data_folder_in"])
    return str(sum(1 for _ in folder.glob("*.msg"))) if folder.is_dir() else "0"
