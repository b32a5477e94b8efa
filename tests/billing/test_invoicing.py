"""Tests of bills: lines equal events to the nano, rounding happens once, months close once and in order."""

import threading
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connections, transaction
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from billing.books import check_books
from billing.errors import PeriodNotOver
from billing.invoicing import CLOSE_AFTER, close_period, close_periods, upcoming_invoice
from billing.ledger import REVENUE, balance, credit_account_name, ledger_balance
from billing.models import Account, Invoice, Price
from billing.periods import EPOCH
from billing.refunding import refund_event
from tests.billing.facts import CREDIT_NANOS, Recorder

pytestmark = pytest.mark.django_db

OCTOBER, NOVEMBER, DECEMBER = (datetime(2025, month, 1, tzinfo=UTC) for month in (10, 11, 12))
MID_NOVEMBER = datetime(2025, 11, 15, 12, 30, tzinfo=UTC)
AFTER = DECEMBER + CLOSE_AFTER


@pytest.fixture
def other_price() -> Price:
    """A price per call of another SKU, that leaves remainders."""
    return Price.objects.create(sku="house/other@1", unit="call", unit_nanos=3_333_333, effective_from=EPOCH)


def test_a_bill_has_a_line_per_sku_and_price(account: Account, price: Price, other_price: Price) -> None:
    recorder = Recorder(account)
    later = Price.objects.create(sku=price.sku, unit="token", unit_nanos=100, effective_from=MID_NOVEMBER)
    for units in (10, 20):
        recorder.record(price, units=units, occurred_at=MID_NOVEMBER)
    recorder.record(later, units=7, occurred_at=MID_NOVEMBER)
    recorder.record(other_price, units=1, occurred_at=MID_NOVEMBER)

    bill = upcoming_invoice(account, now=MID_NOVEMBER)

    assert [(line.sku, line.events, line.units, line.charge_nanos) for line in bill.lines if line.price_id != later.pk] == [
        ("house/model@1", 2, 30, 6_000),
        ("house/other@1", 1, 1, 3_333_333),
    ]
    assert [(line.units, line.charge_nanos) for line in bill.lines if line.price_id == later.pk] == [(7, 700)]
    assert (bill.starts_at, bill.ends_at) == (NOVEMBER, DECEMBER)


def test_a_bill_leaves_out_other_months_other_accounts_and_test_calls(account: Account, price: Price) -> None:
    recorder = Recorder(account)
    recorder.record(price, occurred_at=NOVEMBER - timedelta(microseconds=1))
    recorder.record(price, occurred_at=DECEMBER)
    recorder.record(price, occurred_at=MID_NOVEMBER, livemode=False)
    recorder.record(price, units=3, occurred_at=NOVEMBER)

    assert upcoming_invoice(account, now=MID_NOVEMBER).charge_nanos == 600


def test_a_refund_in_an_open_month_comes_off_its_line(account: Account, price: Price) -> None:
    recorder = Recorder(account)
    event = recorder.record(price, units=3, occurred_at=MID_NOVEMBER)
    recorder.record(price, units=4, occurred_at=MID_NOVEMBER)
    refund_event(event.pk, reason="test", by="test")

    (line,) = upcoming_invoice(account, now=MID_NOVEMBER).lines

    assert (line.events, line.units, line.charge_nanos) == (1, 4, 800)


def test_a_line_that_was_refunded_whole_is_gone(account: Account, price: Price) -> None:
    event = Recorder(account).record(price, occurred_at=MID_NOVEMBER)
    refund_event(event.pk, reason="test", by="test")

    assert upcoming_invoice(account, now=MID_NOVEMBER).lines == []


def test_a_closed_month_equals_what_was_upcoming_and_leaves_the_credit(account: Account, price: Price, other_price: Price) -> None:
    recorder = Recorder(account)
    for number in range(5):
        recorder.record(price, units=1 + number, occurred_at=MID_NOVEMBER + timedelta(hours=number))
        recorder.record(other_price, units=1, occurred_at=MID_NOVEMBER)
    upcoming = upcoming_invoice(account, now=MID_NOVEMBER)

    invoice = close_period(account, NOVEMBER, now=AFTER)

    lines = [
        (line.sku, line.price_id, line.events, line.units, line.charge_nanos, line.amount_cents) for line in invoice.lines.order_by("sku")
    ]
    assert lines == [(line.sku, line.price_id, line.events, line.units, line.charge_nanos, line.amount_cents) for line in upcoming.lines]
    assert invoice.total_cents == upcoming.total_cents == 2  # 3,000 nanos are 0 cents; 16,666,665 are 2.
    assert ledger_balance(credit_account_name(account)) == CREDIT_NANOS - upcoming.charge_nanos
    assert ledger_balance(REVENUE) == upcoming.charge_nanos
    assert balance(account).spent == upcoming.charge_nanos
    assert check_books() == []


def test_closing_twice_is_closing_once(account: Account, price: Price) -> None:
    Recorder(account).record(price, occurred_at=MID_NOVEMBER)

    assert close_period(account, NOVEMBER, now=AFTER) == close_period(account, NOVEMBER, now=AFTER)

    assert Invoice.objects.count() == 1
    assert ledger_balance(REVENUE) == 2_000


def test_a_month_is_not_closed_before_its_calls_have_settled(account: Account) -> None:
    with pytest.raises(PeriodNotOver) as refused:
        close_period(account, NOVEMBER, now=AFTER - timedelta(seconds=1))

    assert refused.value.ends_at == DECEMBER
    assert not Invoice.objects.exists()


def test_the_database_tells_the_time_where_nobody_else_does(account: Account) -> None:
    this_month = datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)

    with pytest.raises(PeriodNotOver):
        close_period(account, this_month)
    assert close_period(account, NOVEMBER).total_cents == 0


def test_only_months_are_closed(account: Account) -> None:
    with pytest.raises(ValueError, match="month"):
        close_period(account, MID_NOVEMBER, now=AFTER)


def test_a_refund_after_the_close_comes_off_the_next_bill(account: Account, price: Price) -> None:
    recorder = Recorder(account)
    event = recorder.record(price, units=3, occurred_at=MID_NOVEMBER)
    closed = close_period(account, NOVEMBER, now=AFTER)
    refund = refund_event(event.pk, reason="test", by="test")

    (line,) = upcoming_invoice(account, now=refund.booked_at).lines

    assert (line.events, line.units, line.charge_nanos) == (-1, -3, -600)
    assert closed.lines.get().charge_nanos == 600
    assert balance(account).spent == 0
    assert check_books() == []


def test_what_rounding_leaves_is_carried_to_the_next_bill(account: Account, price: Price) -> None:
    recorder = Recorder(account)
    recorder.record(price, units=20_000, occurred_at=OCTOBER)  # 4,000,000 nanos: 0.4 cents.
    recorder.record(price, units=30_000, occurred_at=NOVEMBER)  # 0.6 cents.

    october = close_period(account, OCTOBER, now=AFTER)
    november = close_period(account, NOVEMBER, now=AFTER)

    assert (october.total_cents, october.carried_out_nanos) == (0, 4_000_000)
    assert (november.carried_in_nanos, november.carried_in_cents, november.total_cents) == (4_000_000, 0, 1)
    assert november.carried_out_nanos == 0  # One cent in all for exactly one cent of calls.


@hypothesis_settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 10**6)), max_size=6))
def test_bills_lose_no_nano_over_the_months(account: Account, price: Price, calls: list[tuple[int, int]]) -> None:
    with transaction.atomic():
        recorder = Recorder(account)
        for month, units in calls:
            recorder.record(price, units=units, occurred_at=datetime(2025, 9 + month, 10, tzinfo=UTC))
        invoices = [close_period(account, datetime(2025, 9 + month, 1, tzinfo=UTC), now=AFTER) for month in range(3)]

        total = sum(invoice.total_cents for invoice in invoices) * 10_000_000 + invoices[-1].carried_out_nanos
        assert total == sum(units * 200 for _, units in calls)
        assert abs(invoices[-1].carried_out_nanos) <= 10_000_000
        transaction.set_rollback(True)


def test_close_periods_closes_every_past_month_oldest_first(account: Account, price: Price) -> None:
    recorder = Recorder(account)
    for moment in (datetime(2025, 8, 3, tzinfo=UTC), OCTOBER, MID_NOVEMBER, AFTER):
        recorder.record(price, units=20_000, occurred_at=moment)

    assert close_periods(now=AFTER) == 3
    assert close_periods(now=AFTER) == 0

    invoices = list(Invoice.objects.order_by("starts_at"))
    assert [invoice.starts_at.month for invoice in invoices] == [8, 10, 11]
    assert [invoice.carried_in_nanos for invoice in invoices] == [0, 4_000_000, 8_000_000]
    assert check_books() == []


@pytest.mark.django_db(transaction=True)
def test_many_closers_at_once_close_once(account: Account, price: Price) -> None:
    Recorder(account).record(price, occurred_at=MID_NOVEMBER)
    start = threading.Barrier(6)

    def close() -> None:
        start.wait()
        close_periods(now=AFTER)
        connections.close_all()

    threads = [threading.Thread(target=close) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert Invoice.objects.count() == 1
    assert ledger_balance(REVENUE) == 2_000
    assert check_books() == []
