from datetime import timedelta
from typing import Any

from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from billing.ids import uuid7
from billing.ledger import grant_credit
from billing.models import Account, Budget, GatewayProcess, UsageEvent
from billing.money import Nanos
from marketplace.gateway.report import REPORTS, Report
from marketplace.models import ApiKey, AuditCheck, GatewayReport, Organization, RequestLog
from marketplace.tasks import check_audit, check_books


def figures(desk: Client) -> dict[str, Any]:
    return {figure.label: figure for figure in desk.get("/admin/").context["figures"]}


def refuse(key: ApiKey, code: str, *, minutes_ago: int = 2) -> None:
    RequestLog.objects.create(
        id=uuid7(),
        organization=key.organization,
        key=key,
        livemode=True,
        route="predict",
        status=402,
        code=code,
        occurred_at=timezone.now() - timedelta(minutes=minutes_ago),
    )


def test_an_empty_site_has_a_front_page(desk: Client) -> None:
    shown = figures(desk)

    assert shown["Calls per minute"].value == "0.0"
    assert shown["Latency"].value == "–"
    assert "None runs" in desk.get("/admin/").content.decode()


def test_the_front_page_counts_calls_and_money(desk: Client, event: UsageEvent) -> None:
    check_books()

    shown = figures(desk)

    assert shown["Spend today"].value == "$0.0000022"
    assert shown["Credit outstanding"].value == "$5.00"
    assert shown["Latency"].value == "2.0 / 2.0 ms"
    assert shown["Books differ by"].value == "0.00"


def test_money_of_two_currencies_is_not_added_up(desk: Client, event: UsageEvent, other_organization: Organization) -> None:
    other = other_organization.account
    Account.objects.filter(pk=other.pk).update(currency="eur")
    other.refresh_from_db()
    grant_credit(other, Nanos(7 * 10**9), kind="operator", reference="test:eur", by="test")

    shown = figures(desk)

    assert shown["Credit outstanding"].value == "$5.00 + €7.00"
    assert shown["Spend today"].value == "$0.0000022"
    assert "$0.0000001" in desk.get("/admin/").content.decode()  # Leased by the process.


def test_refusals_are_counted_by_code(desk: Client, key: ApiKey) -> None:
    for code in ("rate_limited", "budget_exceeded", "budget_exceeded"):
        refuse(key, code)
    refuse(key, "key_expired", minutes_ago=90)

    context = desk.get("/admin/").context

    assert [(row["code"], row["calls"]) for row in context["refusals"]] == [("budget_exceeded", 2), ("rate_limited", 1)]
    assert {figure.label: figure.value for figure in context["figures"]}["Refused this hour"] == "3"
    assert sum(bar.refused > 0 for bar in context["bars"]) == 1


def test_books_that_do_not_balance_are_shown_in_red(desk: Client, event: UsageEvent) -> None:
    Budget.objects.filter(subject="account", spent_nanos__gt=0).update(spent_nanos=2201)
    check_books()

    shown = figures(desk)["Books differ by"]

    assert (shown.value, shown.state) == ("0.000000001", "bad")
    assert "The books do not balance. Differences found: 1." in desk.get("/admin/").content.decode()


def test_books_that_nobody_checked_do_not_read_zero(desk: Client, event: UsageEvent) -> None:
    assert figures(desk)["Books differ by"].value == "–"


def test_a_broken_audit_chain_is_an_alarm(desk: Client, organization: Organization) -> None:
    check_audit()
    assert "operator__alarm" not in desk.get("/admin/").content.decode()

    AuditCheck.objects.update(broken_sequence=3, words="it was edited")

    assert "The audit chain is broken at event 3: it was edited." in desk.get("/admin/").content.decode()


def test_a_silent_process_is_told_from_a_live_one(desk: Client, event: UsageEvent) -> None:
    GatewayProcess.objects.create(started_at=timezone.now(), heartbeat_at=timezone.now() - timedelta(minutes=1))

    rows = desk.get("/admin/").context["processes"]

    assert sorted(row["is_alive"] for row in rows) == [False, True]
    assert "(silent)" in desk.get("/admin/").content.decode()


FIGURES: dict[str, Any] = {
    "queue_rows": 9, "ready_workers": 2, "restarts": 3, "provider": "cpu", "batches": 10, "rows": 25, "tokens": 75, "padded_tokens": 100,
    "outcomes": {"answered": 5}, "refused": {"rate_limited": 4, "key_unknown": 7}, "log_dropped": 0,
}  # fmt: skip


def test_the_gateways_tell_of_their_engines_and_of_strangers(desk: Client) -> None:
    now = timezone.now()
    one, two, ended = (GatewayProcess.objects.create(started_at=now, heartbeat_at=now) for _ in range(3))
    GatewayProcess.objects.filter(pk=ended.pk).update(closed_at=now)
    REPORTS.write([Report(one.pk, FIGURES), Report(ended.pk, FIGURES)])
    REPORTS.write([Report(one.pk, FIGURES | {"queue_rows": 1})])  # Replaces the first.

    context = desk.get("/admin/").context

    rows = {row["id"]: row for row in context["processes"]}
    shown = rows[one.pk.hex[-8:]]
    assert [shown[name] for name in ("provider", "workers", "restarts", "queue", "batch_rows", "padding")] == [
        "CPU",
        "2",
        "3",
        "1",
        "2.5",
        "25.0 %",
    ]
    assert rows[two.pk.hex[-8:]]["queue"] == "–"  # It has not told yet.
    assert context["refused_by_gateways"] == [("key_unknown", 7), ("rate_limited", 4)]  # Not those of one that has ended.
    assert GatewayReport.objects.count() == 2


def test_minutes_that_are_over_are_counted_once(desk: Client, key: ApiKey) -> None:
    refuse(key, "rate_limited", minutes_ago=30)
    refuse(key, "rate_limited", minutes_ago=1)
    first = figures(desk)["Refused this hour"].value
    refuse(key, "rate_limited", minutes_ago=1)
    with CaptureQueriesContext(connection) as queries:
        second = figures(desk)["Refused this hour"].value

    assert (first, second) == ("2", "3")
    (statement,) = [query["sql"] for query in queries if "SUBSTR" in query["sql"].upper() and "requestlog" in query["sql"]]
    began = timezone.now() - timedelta(minutes=6)
    assert f"{began:%Y-%m-%d %H:%M}" < statement.split(" >= ")[1].strip("'")
