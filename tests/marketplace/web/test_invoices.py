from datetime import timedelta

from django.test import Client
from django.utils import timezone

from billing.invoicing import close_period
from billing.models import UsageEvent
from marketplace.models import ApiKey, ModelVersion
from marketplace.web.figures import month_start
from tests.marketplace.web.recorded import record_call


def test_the_open_invoice_is_the_sum_of_its_events(member: Client, key: ApiKey, sentiment: ModelVersion) -> None:
    for tokens in range(1, 40):
        record_call(key, sentiment, tokens=tokens)

    sheet = member.get("/invoices/current/").context["sheet"]

    assert sheet.is_open
    assert sheet.charge_nanos == sum(UsageEvent.objects.values_list("charge_nanos", flat=True)) == 780 * 200
    assert [(line.sku, line.events, line.units) for line in sheet.lines] == [("farebox/sentiment@1", 39, 780)]


def test_a_line_opens_into_its_calls(member: Client, key: ApiKey, sentiment: ModelVersion) -> None:
    calls = [record_call(key, sentiment) for _ in range(60)]
    record_call(key, sentiment, at=month_start(timezone.now()) - timedelta(seconds=1))  # Another month's.

    first = member.get("/invoices/current/calls/?sku=farebox/sentiment@1").context
    second = member.get(f"/invoices/current/calls/?sku=farebox/sentiment@1&before={first['older']}").context

    found = [event.pk for event in [*first["events"], *second["events"]]]
    assert sorted(found) == sorted(call.pk for call in calls)
    assert second["older"] == ""


def test_a_closed_invoice_stays_as_it_is(member: Client, key: ApiKey, sentiment: ModelVersion) -> None:
    this_month = month_start(timezone.now())
    last_month = month_start(this_month - timedelta(days=1))
    record_call(key, sentiment, tokens=70_000, at=last_month + timedelta(days=2))
    number = close_period(key.organization.account, last_month, now=this_month + timedelta(hours=2)).number
    record_call(key, sentiment, tokens=5)

    sheet = member.get(f"/invoices/{number}/").context["sheet"]

    assert (sheet.is_open, sheet.charge_nanos, sheet.total_cents) == (False, 14_000_000, 1)
    assert sheet.carried_out_nanos == 4_000_000
    assert number in member.get("/invoices/").content.decode()


def test_an_empty_month_says_so(member: Client) -> None:
    assert "Nothing to bill" in member.get("/invoices/current/").content.decode()


def test_a_page_of_calls_needs_a_real_cursor(member: Client) -> None:
    assert member.get("/invoices/current/calls/?before=nonsense").status_code == 404
