"""Tests of postings: each hour's usage once, what changes of it as a correction, shares by the split that held."""

from datetime import UTC, datetime, timedelta
from threading import Barrier, Thread

import pytest
from django.db import IntegrityError, connection, connections, transaction
from django.utils import timezone

from billing.books import check_books
from billing.ids import uuid7
from billing.invoicing import CLOSE_AFTER, close_period
from billing.ledger import REVENUE, credit_account_name, ledger_balance, open_account, post, provider_account_name
from billing.models import Account, Invoice, InvoiceLine, LedgerEntry, LedgerTransaction, Price, SkuShare, UsagePosting
from billing.periods import EPOCH
from billing.posting import leaf_of, post_usage, posts_from
from billing.receipts import merkle_root
from billing.refunding import refund_event
from tests.billing.facts import CREDIT_NANOS, Recorder

pytestmark = pytest.mark.django_db
HOUR = datetime(2025, 11, 3, 10, tzinfo=UTC)
LATER = HOUR + timedelta(hours=2)
DECEMBER = datetime(2025, 12, 1, tzinfo=UTC)


@pytest.fixture
def provider() -> Account:
    """Who is paid for `house/model`, less a fee of 15 %."""
    opened = open_account(name="models & co")
    SkuShare.objects.create(subject="house/model@1", payee=opened, fee_basis_points=1500, effective_from=EPOCH, by="test")
    return opened


@pytest.fixture
def recorder(account: Account) -> Recorder:
    """The account's gateway."""
    return Recorder(account)


def owed(provider: Account) -> int:
    """What the ledger says."""
    return ledger_balance(provider_account_name(provider))


def test_an_hour_becomes_one_row_and_one_transaction_that_name_its_calls(recorder: Recorder, price: Price, provider: Account) -> None:
    calls = [recorder.record(price, units=units, occurred_at=HOUR + timedelta(minutes=units)) for units in (3, 4, 10)]

    assert post_usage(now=LATER) == 1

    (row,) = UsagePosting.objects.all()
    assert (row.hour, row.sku, row.price, row.number, row.kind, row.period) == (
        HOUR,
        price.sku,
        price,
        1,
        "usage",
        HOUR.replace(day=1, hour=0),
    )
    assert (row.events, row.units, row.charge_nanos, row.fee_nanos, row.share_nanos) == (3, 17, 3_400, 510, 2_890)
    assert (row.range_events, row.first_event, row.last_event) == (3, calls[0].pk, calls[2].pk)
    leaves = [leaf_of(call.pk, units=call.units, charge_nanos=call.charge_nanos) for call in calls]
    assert row.merkle_root == merkle_root(leaves).hex()
    assert row.transaction is not None
    entries = dict(row.transaction.entries.values_list("ledger_account__name", "amount_nanos"))
    assert entries == {credit_account_name(recorder.account): -3_400, REVENUE: 510, provider_account_name(provider): 2_890}
    assert check_books() == []


def test_an_hour_is_posted_once_it_is_over_and_its_calls_have_settled(recorder: Recorder, price: Price) -> None:
    recorder.record(price, occurred_at=HOUR + timedelta(minutes=59))

    assert post_usage(now=HOUR + timedelta(minutes=69)) == 0
    assert post_usage(now=HOUR + timedelta(minutes=71)) == 1


def test_posting_twice_changes_nothing(recorder: Recorder, price: Price, provider: Account) -> None:
    refund_event(recorder.record(price, occurred_at=HOUR).pk, reason="test", by="test")
    recorder.record(price, occurred_at=HOUR)

    assert [post_usage(now=LATER), post_usage(now=LATER), post_usage(now=LATER, everything=True)] == [2, 0, 0]
    assert LedgerTransaction.objects.filter(kind__startswith="usage").count() == 2


@pytest.mark.django_db(transaction=True)
def test_posting_at_the_same_time_as_itself_posts_once(recorder: Recorder, price: Price) -> None:
    for _ in range(5):
        recorder.record(price, occurred_at=HOUR)
    together, counts = Barrier(4), []

    def run() -> None:
        together.wait()
        counts.append(post_usage(now=LATER))
        connections.close_all()

    threads = [Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(counts) == [0, 0, 0, 1]
    assert ledger_balance(credit_account_name(recorder.account)) == CREDIT_NANOS - 10_000


def test_a_late_call_gets_a_row_that_refers_to_the_first(recorder: Recorder, price: Price, provider: Account) -> None:
    recorder.record(price, units=3, occurred_at=HOUR)
    post_usage(now=LATER)
    recorder.record(price, units=4, occurred_at=HOUR)

    assert post_usage(now=LATER) == 1

    first, second = UsagePosting.objects.order_by("number")
    assert (second.number, second.corrects, second.events, second.units, second.charge_nanos, second.range_events) == (
        2,
        first,
        1,
        4,
        800,
        2,
    )
    assert first.merkle_root != second.merkle_root
    assert owed(provider) == 1_190
    assert check_books() == []


def test_a_refund_takes_the_share_back_by_the_split_that_held(recorder: Recorder, price: Price, provider: Account) -> None:
    calls = [recorder.record(price, units=7, occurred_at=HOUR) for _ in range(3)]
    post_usage(now=LATER)
    SkuShare.objects.create(subject=price.sku, payee=provider, fee_basis_points=9_000, effective_from=LATER, by="test")
    for call in calls:
        refund_event(call.pk, reason="test", by="test")
        post_usage(now=LATER)

    refunds = UsagePosting.objects.filter(kind="refund").order_by("number")
    assert [row.charge_nanos for row in refunds] == [-1_400] * 3
    assert {row.fee_basis_points for row in refunds} == {1_500}
    assert (owed(provider), ledger_balance(REVENUE), ledger_balance(credit_account_name(recorder.account))) == (0, 0, CREDIT_NANOS)
    assert check_books() == []


def test_a_later_fee_holds_for_later_hours_only(recorder: Recorder, price: Price, provider: Account) -> None:
    SkuShare.objects.create(subject=price.sku, payee=provider, fee_basis_points=5_000, effective_from=LATER, by="test")
    recorder.record(price, occurred_at=LATER - timedelta(seconds=1))
    recorder.record(price, occurred_at=LATER)

    post_usage(now=LATER + timedelta(hours=2))

    assert list(UsagePosting.objects.order_by("hour").values_list("share_nanos", flat=True)) == [1_700, 1_000]


def test_nobody_earns_by_calling_their_own_models(account: Account, recorder: Recorder, price: Price) -> None:
    SkuShare.objects.create(subject=price.sku, payee=account, fee_basis_points=1500, effective_from=EPOCH, by="test")
    recorder.record(price, occurred_at=HOUR)

    post_usage(now=LATER)

    assert (owed(account), ledger_balance(REVENUE)) == (0, 2_000)
    assert check_books() == []


def test_a_meter_pays_for_all_its_skus(recorder: Recorder, provider: Account) -> None:
    SkuShare.objects.create(subject="house/other", payee=provider, fee_basis_points=0, effective_from=EPOCH, by="test")
    price = Price.objects.create(id=uuid7(), sku="house/other@2", unit="token", unit_nanos=5, meter="house/other", effective_from=EPOCH)
    recorder.record(price, occurred_at=HOUR)

    post_usage(now=LATER)

    assert (owed(provider), ledger_balance(REVENUE)) == (50, 0)


def test_test_calls_and_calls_for_nothing_move_nothing(recorder: Recorder, price: Price) -> None:
    free = Price.objects.create(id=uuid7(), sku="house/free@1", unit="token", unit_nanos=0, effective_from=EPOCH)
    recorder.record(price, livemode=False, occurred_at=HOUR)
    recorder.record(free, occurred_at=HOUR)

    post_usage(now=LATER)

    (row,) = UsagePosting.objects.all()
    assert (row.sku, row.events, row.transaction) == (free.sku, 1, None)


def test_a_close_posts_what_is_left_and_charges_nothing_itself(recorder: Recorder, price: Price, provider: Account) -> None:
    recorder.record(price, occurred_at=HOUR)
    invoice = close_period(recorder.account, HOUR.replace(day=1, hour=0), now=DECEMBER + CLOSE_AFTER)

    assert not LedgerTransaction.objects.filter(kind="invoice").exists()
    assert UsagePosting.objects.get().charge_nanos == invoice.lines.get().charge_nanos == 2_000
    assert (ledger_balance(credit_account_name(recorder.account)), owed(provider)) == (CREDIT_NANOS - 2_000, 1_700)
    assert check_books() == []


def test_a_refund_after_the_close_is_on_the_next_months_bill_and_rows(recorder: Recorder, price: Price, provider: Account) -> None:
    call = recorder.record(price, occurred_at=HOUR)
    close_period(recorder.account, HOUR.replace(day=1, hour=0), now=DECEMBER + CLOSE_AFTER)
    refund = refund_event(call.pk, reason="test", by="test")

    assert post_usage() == 1

    row = UsagePosting.objects.get(kind="refund")
    assert (row.hour, row.period) == (HOUR, refund.booked_at.replace(day=1, hour=0, minute=0, second=0, microsecond=0))
    assert (row.charge_nanos, row.share_nanos, owed(provider)) == (-2_000, -1_700, 0)
    assert check_books() == []


def test_months_that_were_charged_in_one_sum_are_not_posted_again(recorder: Recorder, price: Price, provider: Account) -> None:
    """As months closed by earlier releases were."""
    call = recorder.record(price, occurred_at=HOUR)
    recorder.record(price, occurred_at=HOUR)
    _close_as_before(recorder.account, price)
    recorder.record(price, occurred_at=DECEMBER)

    assert posts_from(recorder.account) == DECEMBER
    assert post_usage() == 1  # December's.
    assert check_books() == []

    refund_event(call.pk, reason="test", by="test")
    assert post_usage() == 1
    assert (ledger_balance(credit_account_name(recorder.account)), owed(provider)) == (CREDIT_NANOS - 4_000, 1_700)
    assert check_books() == []


def test_a_run_after_a_long_silence_looks_back_far_enough(recorder: Recorder, price: Price) -> None:
    recorder.record(price, occurred_at=HOUR)
    post_usage(now=LATER)
    recorder.record(price, occurred_at=HOUR - timedelta(days=20))

    assert post_usage(now=timezone.now()) == 0  # Not what was missed weeks ago:
    assert post_usage(now=timezone.now(), everything=True) == 1  # that is the daily run's.


@pytest.mark.parametrize(
    "change", ["UPDATE billing_usageposting SET fee_nanos = 0", "DELETE FROM billing_usageposting", "DELETE FROM billing_skushare"]
)
def test_the_database_refuses_to_change_postings_and_shares(recorder: Recorder, price: Price, provider: Account, change: str) -> None:
    recorder.record(price, occurred_at=HOUR)
    post_usage(now=LATER)

    with pytest.raises(IntegrityError, match="append-only"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(change)


def test_a_charge_that_nobody_split_is_refused(recorder: Recorder, price: Price) -> None:
    recorder.record(price, occurred_at=HOUR)
    post_usage(now=LATER)
    row = UsagePosting.objects.get()
    row.pk, row.number, row.transaction, row.charge_nanos, row.fee_nanos = uuid7(), 2, None, 5, 4

    with pytest.raises(IntegrityError, match=r"posting_splits_exactly|posting_charge_is_in_ledger"), transaction.atomic():
        row.save(force_insert=True)


def _close_as_before(account: Account, price: Price) -> None:
    starts_at = HOUR.replace(day=1, hour=0)
    invoice = Invoice.objects.create(number="old", account=account, starts_at=starts_at, ends_at=DECEMBER, currency="usd", total_cents=0)
    InvoiceLine.objects.create(
        invoice=invoice,
        price=price,
        sku=price.sku,
        unit="token",
        events=2,
        units=20,
        charge_nanos=4_000,
        amount_cents=0,
        remainder_nanos=4_000,
    )
    amounts = {credit_account_name(account): -4_000, REVENUE: 4_000}
    post(kind="invoice", reference="invoice:old", by="system", amounts=amounts, owner=account)
    assert LedgerEntry.objects.filter(transaction__kind="invoice").count() == 2


def test_a_rebate_takes_its_part_of_the_share_back(recorder: Recorder, provider: Account) -> None:
    """Whoever sells at a volume price would else keep the share of what the site gave back to the customer."""
    tiers = [{"up_to": 10, "unit_nanos": 200}, {"up_to": None, "unit_nanos": 50}]
    shape = {"scheme": "volume", "tiers": tiers}
    price = Price.objects.create(id=uuid7(), sku="house/model@1", unit="token", unit_nanos=200, shape=shape, effective_from=EPOCH)
    calls = [recorder.record(price, units=units, occurred_at=HOUR) for units in (7, 10)]

    close_period(recorder.account, HOUR.replace(day=1, hour=0), now=DECEMBER + CLOSE_AFTER)

    assert ledger_balance(credit_account_name(recorder.account)) == CREDIT_NANOS - 17 * 50
    row = UsagePosting.objects.get(kind="rebate")
    assert (row.charge_nanos, row.share_nanos, owed(provider)) == (0, -2_167, 2_890 - 2_167)  # 2,550 x 2,890 / 3,400.
    assert (row.range_events, row.first_event, row.last_event) == (2, calls[0].pk, calls[1].pk)
    assert check_books() == []

    refund_event(calls[0].pk, reason="test", by="test")
    post_usage()
    assert owed(provider) == 2_890 - 2_167 - 1_190
    assert check_books() == []
