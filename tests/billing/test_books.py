"""Tests of the books: good ones show nothing, each kind of tampering shows."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from django.db import connection
from django.db.models import F

from billing import tasks
from billing.books import check_books, check_this_hour, find_last_run
from billing.invoicing import CLOSE_AFTER, close_period
from billing.metering import Meter
from billing.models import Account, BooksRun, Budget, CreditPool, GatewayProcess, Lease, Price, UsageRefund, UsageRollup
from billing.refunding import refund_event
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
    table = statement.split()[1]
    with connection.cursor() as cursor:
        cursor.execute(f"DROP TRIGGER {table}_no_update" + (f" ON {table}" if connection.vendor == "postgresql" else ""))
        cursor.execute(statement)

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


def test_the_tasks_do_their_work(recorder: Recorder, caplog: pytest.LogCaptureFixture) -> None:
    GatewayProcess.objects.update(heartbeat_at=NOVEMBER)
    tasks.reclaim_dead_processes()
    tasks.close_periods()
    tasks.check_books()
    assert UsageRefund.objects.count() == 3
    assert "The books differ" not in caplog.text

    Budget.objects.update(spent_nanos=77)
    tasks.check_books()
    assert "The books differ" not in caplog.text  # This hour's check was made.

    BooksRun.objects.all().delete()
    tasks.check_books()
    assert "The books differ: budget spent" in caplog.text


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
