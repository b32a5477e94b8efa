from datetime import UTC, datetime, timedelta

from django.conf import settings
from django.test import Client
from django.utils import timezone

from billing.invoicing import close_period
from billing.ledger import grant_credit
from billing.models import Price, UsageEvent
from billing.money import Nanos
from billing.periods import month_of
from billing.receipting import WriteReceiptKey
from billing.receipts import Signer
from marketplace.models import ApiKey, ModelVersion
from tests.billing.facts import Recorder
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
    record_call(key, sentiment, at=month_of(timezone.now())[0] - timedelta(seconds=1))  # Another month's.

    first = member.get("/invoices/current/calls/?sku=farebox/sentiment@1").context
    second = member.get(f"/invoices/current/calls/?sku=farebox/sentiment@1&before={first['older']}").context

    found = [event.pk for event in [*first["events"], *second["events"]]]
    assert sorted(found) == sorted(call.pk for call in calls)
    assert second["older"] == ""


def test_a_closed_invoice_stays_as_it_is(member: Client, key: ApiKey, sentiment: ModelVersion) -> None:
    this_month = month_of(timezone.now())[0]
    last_month = month_of(this_month - timedelta(days=1))[0]
    record_call(key, sentiment, tokens=70_000, at=last_month + timedelta(days=2))
    number = close_period(key.organization.account, last_month, now=this_month + timedelta(hours=2)).number
    record_call(key, sentiment, tokens=5)

    sheet = member.get(f"/invoices/{number}/").context["sheet"]

    assert (sheet.is_open, sheet.charge_nanos, sheet.total_cents) == (False, 14_000_000, 1)
    assert sheet.carried_out_nanos == 4_000_000
    assert number in member.get("/invoices/").content.decode()


def test_late_usage_has_a_line_that_opens_into_its_calls(member: Client, key: ApiKey, sentiment: ModelVersion) -> None:
    account, signer = key.organization.account, Signer(settings.RECEIPT_KEY)
    WriteReceiptKey(signer).write([None])
    grant_credit(account, Nanos(10**9), kind="operator", reference="r", by="test")
    recorder, price = Recorder(account, signer=signer), Price.objects.get(sku=sentiment.sku)
    late = []
    for month in (8, 9):
        recorder.record(price, units=5, occurred_at=datetime(2026, month, 5, tzinfo=UTC))
        if month == 9:
            late = [recorder.record(price, units=7, occurred_at=datetime(2026, 8, 31, 23, tzinfo=UTC)) for _ in range(60)]
        invoice = close_period(account, datetime(2026, month, 1, tzinfo=UTC), now=datetime(2026, month + 1, 2, tzinfo=UTC))

    page = member.get(f"/invoices/{invoice.number}/").content.decode()
    path = f"/invoices/{invoice.number}/calls/?sku=farebox/sentiment@1"
    first = member.get(f"{path}&late=2026-08")
    second = member.get(f"{path}&late=2026-08&before={first.context['older']}")
    rows = b"".join(member.get(f"/invoices/{invoice.number}/calls.csv").streaming_content).decode().splitlines()
    lines = member.get(f"/invoices/{invoice.number}/lines.csv").content.decode().splitlines()

    assert "late from 2026-08" in page
    assert "sku=farebox/sentiment%401&amp;late=2026-08" in page.replace("sentiment@1", "sentiment%401")
    assert {event.pk for event in [*first.context["events"], *second.context["events"]]} == {event.pk for event in late}
    assert "&amp;late=2026-08&amp;before=" in first.content.decode()
    assert len(member.get(path).context["events"]) == 1
    assert len(rows) == 1 + 1 + 60
    assert [line.split(",")[-1] for line in lines[1:3]] == ["", "2026-08"]
    assert member.get(f"/invoices/{invoice.number}/invoice.pdf").content.startswith(b"%PDF")
    assert member.get(f"{path}&late=nonsense").status_code == 404


def test_an_empty_month_says_so(member: Client) -> None:
    assert "Nothing to bill" in member.get("/invoices/current/").content.decode()


def test_a_page_of_calls_needs_a_real_cursor(member: Client) -> None:
    assert member.get("/invoices/current/calls/?before=nonsense").status_code == 404
