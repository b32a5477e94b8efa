"""Tests of the books: good ones show nothing, each kind of tampering shows."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.db.models import F
from django.utils import timezone

from billing import tasks
from billing.books import check_books, check_this_hour, find_last_run
from billing.invoicing import CLOSE_AFTER, close_period, close_periods
from billing.metering import Meter
from billing.models import Account, BooksRun, Budget, CreditPool, GatewayProcess, Lease, Price, UsageEvent, UsageRefund, UsageRollup
from billing.periods import month_of
from billing.posting import post_usage
from billing.refunding import refund_event
from billing.usage_books import find_checkpoint, make_checkpoint
from tests.billing.facts import Recorder, call, in_thread, usage_of, whole_account, with_meter

pytestmark = pytest.mark.django_db
NOVEMBER = datetime(2025, 11, 1, tzinfo=UTC)


@pytest.fixture
def recorder(account: Account, price: Price) -> Recorder:
    """A month that was closed, and usage and a refund after it."""
    recorder = Recorder(account)
    recorder.record(price, occurred_at=NOVEMBER)
    close_period(account, NOVEMBER, now=datetime(2025, 12, 1, tzinfo=UTC) + CLOSE_AFTER)
    refund_event(recorder.record(price).pk, reason="test", by="test")
    recorder.record(price)
    recorder.lend(500)
    return recorder


def test_good_books_show_no_difference(recorder: Recorder) -> None:
    assert check_books() == []


@pytest.mark.parametrize(
    ("tamper", "what"),
    [
        (lambda: Budget.objects.update(spent_nanos=F("spent_nanos") + 1), "budget spent"),
        (lambda: Budget.objects.update(leased_nanos=F("leased_nanos") + 1), "budget leased"),
        (lambda: Lease.objects.update(amount_nanos=F("amount_nanos") + 1), "budget leased"),
        (lambda: Budget.objects.update(limit_nanos=F("limit_nanos") + 1), "account limit"),
        (lambda: UsageRollup.objects.update(units=F("units") + 1), "rollup units"),
        (lambda: UsageRollup.objects.update(charge_nanos=F("charge_nanos") + 1), "rollup charge_nanos"),
        (lambda: UsageRollup.objects.filter(refunded_nanos__gt=0).update(refunded_nanos=1), "rollup refunded"),
        (lambda: CreditPool.objects.create(name="free", limit_nanos=9, granted_nanos=9), "credit pools"),
    ],
)
def test_a_changed_balance_shows(recorder: Recorder, tamper: Callable[[], object], what: str) -> None:
    tamper()

    assert what in {difference.what for difference in check_books()}


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        ("UPDATE billing_usageevent SET charge_nanos = charge_nanos + 1", "budget spent"),
        ("UPDATE billing_ledgerentry SET amount_nanos = amount_nanos + 1", "ledger transaction"),
        ("UPDATE billing_creditgrant SET amount_nanos = amount_nanos + 1", "ledger credit"),
        ("UPDATE billing_invoiceline SET charge_nanos = charge_nanos + 1, remainder_nanos = remainder_nanos + 1", "invoice line"),
    ],
)
def test_a_changed_fact_shows_even_if_somebody_drops_the_trigger(recorder: Recorder, statement: str, what: str) -> None:
    _tamper_with(statement.split()[1], statement)

    found = check_books()

    assert what in {difference.what for difference in found}
    assert "but its facts sum up to" in str(found[0])


@pytest.mark.django_db(transaction=True)
def test_books_are_read_while_calls_are_settled(account: Account, price: Price) -> None:
    async def body(meter: Meter) -> None:
        for _ in range(5):
            await call(meter, [whole_account(account)], usage_of(account, price))
            assert await in_thread(check_books) == []

    with_meter(body)


def test_the_tasks_do_their_work(recorder: Recorder) -> None:
    GatewayProcess.objects.update(heartbeat_at=NOVEMBER)
    tasks.reclaim_dead_processes()
    tasks.post_usage()
    tasks.close_periods()
    tasks.post_all_usage()
    assert UsageRefund.objects.count() == 3
    assert check_books() == []


def test_a_check_of_the_books_is_made_once_an_hour_and_its_result_kept(recorder: Recorder) -> None:
    assert check_this_hour() == []
    run = find_last_run()
    assert run is not None
    assert (run.differences, run.difference_nanos, run.first) == (0, 0, "")

    Budget.objects.update(spent_nanos=F("spent_nanos") + 77)
    assert check_this_hour() is None  # Somebody has done it: nothing is found, and nothing changed.
    assert find_last_run() == run

    BooksRun.objects.update(hour=NOVEMBER)
    differences = check_this_hour()
    run = find_last_run()
    assert run is not None
    assert differences is not None
    assert (run.differences, run.difference_nanos) == (len(differences), 77 * len(differences))
    assert run.first.startswith("budget spent of ")


def test_a_check_that_died_is_no_result(recorder: Recorder) -> None:
    BooksRun.objects.create(hour=NOVEMBER, started_at=NOVEMBER)

    assert find_last_run() is None


def test_a_check_without_a_difference_stands_for_the_months_before(recorder: Recorder, price: Price) -> None:
    assert check_this_hour() == []

    checkpoint = find_checkpoint(timezone.now())
    assert checkpoint is not None
    assert checkpoint.until == month_of(timezone.now())[0]
    assert checkpoint.spent == {str(recorder.budget.pk): 2_000}

    recorder.record(price)
    refund_event(UsageEvent.objects.get(occurred_at=NOVEMBER).pk, reason="test", by="test")
    assert check_books(checkpoint) == check_books() == []


@pytest.mark.parametrize(
    ("tamper", "what"),
    [
        (lambda: Budget.objects.update(spent_nanos=F("spent_nanos") + 1), "budget spent"),
        (lambda: UsageRollup.objects.update(charge_nanos=F("charge_nanos") + 1), "rollup charge_nanos"),
        (lambda: UsageRollup.objects.filter(refunded_nanos__gt=0).update(refunded_nanos=1), "rollup refunded"),
    ],
)
def test_since_a_checkpoint_a_changed_balance_shows_as_before(recorder: Recorder, tamper: Callable[[], object], what: str) -> None:
    checkpoint = make_checkpoint(timezone.now())
    assert checkpoint is not None
    tamper()

    assert what in {difference.what for difference in check_books(checkpoint)}


def test_after_a_checkpoint_the_months_before_are_not_summed_up_again(recorder: Recorder) -> None:
    checkpoint = make_checkpoint(timezone.now())
    _tamper_with("billing_usageevent", "UPDATE billing_usageevent SET charge_nanos = charge_nanos + 1 WHERE occurred_at < '2025-12-01'")

    assert check_books(checkpoint) == []
    assert {difference.what for difference in check_books()} >= {"budget spent", "postings", "invoice line"}


def test_there_is_no_checkpoint_while_a_month_is_not_closed_or_books_differ(recorder: Recorder, price: Price) -> None:
    now = timezone.now()
    last_month = month_of(now)[0] - timedelta(days=1)
    recorder.record(price, occurred_at=last_month)
    assert make_checkpoint(now) is None

    close_periods(now=month_of(now)[0] + CLOSE_AFTER)
    assert make_checkpoint(month_of(now)[0] + timedelta(hours=1)) is None  # Its last calls may not have settled.
    Budget.objects.update(spent_nanos=F("spent_nanos") + 1)
    assert check_this_hour()
    assert find_checkpoint(now) is None


@pytest.mark.parametrize(
    ("table", "change", "what"),
    [
        ("billing_usageposting", "fee_nanos = fee_nanos + 1, charge_nanos = charge_nanos + 1", "ledger usage"),
        ("billing_usageposting", "fee_nanos = fee_nanos + 1, charge_nanos = charge_nanos + 1", "postings"),
        ("billing_usageposting", "fee_nanos = fee_nanos + 1, charge_nanos = charge_nanos + 1", "invoiced postings"),
        ("billing_usageevent", "charge_nanos = charge_nanos + 1", "postings"),
        ("billing_usagerefund", "charge_nanos = charge_nanos - 1", "postings"),
    ],
)
def test_a_changed_posting_or_call_shows_against_the_other(recorder: Recorder, table: str, change: str, what: str) -> None:
    post_usage(now=timezone.now() + timedelta(hours=2))
    assert check_books() == []

    _tamper_with(table, f"UPDATE {table} SET {change}")

    assert what in {difference.what for difference in check_books()}


def _tamper_with(table: str, statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"DROP TRIGGER {table}_no_update" + (f" ON {table}" if connection.vendor == "postgresql" else ""))
        cursor.execute(statement)
