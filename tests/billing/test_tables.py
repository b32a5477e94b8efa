"""What the database itself refuses, whatever the code above does."""

from datetime import UTC, datetime

import pytest
from django.db import IntegrityError, connection, transaction
from django.db.models import Model

from billing.ids import uuid7
from billing.invoicing import close_period
from billing.ledger import post
from billing.models import (
    Account,
    Budget,
    CreditGrant,
    CreditPool,
    GatewayProcess,
    InvoiceLine,
    Lease,
    LedgerAccount,
    LedgerEntry,
    LedgerTransaction,
    Price,
    UsageEvent,
    UsageRefund,
    UsageRollup,
)
from billing.periods import EPOCH
from billing.refunding import refund_event
from tests.billing.facts import Recorder

pytestmark = pytest.mark.django_db


@pytest.fixture
def facts(account: Account, price: Price) -> None:
    """One row in every append-only table."""
    recorder = Recorder(account)
    recorder.record(price, occurred_at=datetime(2025, 1, 5, tzinfo=UTC))
    refund_event(recorder.record(price).pk, reason="test", by="test")
    close_period(account, datetime(2025, 1, 1, tzinfo=UTC))


APPEND_ONLY: list[type[Model]] = [Price, UsageEvent, UsageRefund, LedgerTransaction, LedgerEntry, CreditGrant, InvoiceLine]


@pytest.mark.usefixtures("facts")
@pytest.mark.parametrize("model", APPEND_ONLY, ids=lambda model: model.__name__)
def test_a_fact_cannot_be_changed(model: type[Model]) -> None:
    table, key = model._meta.db_table, model._meta.pk
    assert key is not None

    with pytest.raises(IntegrityError, match="append-only"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"UPDATE {table} SET {key.column} = {key.column}")


@pytest.mark.usefixtures("facts")
@pytest.mark.parametrize("model", APPEND_ONLY, ids=lambda model: model.__name__)
def test_a_fact_cannot_be_deleted(model: type[Model]) -> None:
    count = model._default_manager.count()

    with pytest.raises(IntegrityError, match="append-only"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"DELETE FROM {model._meta.db_table}")

    assert model._default_manager.count() == count > 0


def test_a_ledger_transaction_whose_entries_do_not_sum_to_zero_is_refused() -> None:
    with pytest.raises(IntegrityError, match="sum to zero"), transaction.atomic():
        post(kind="grant", reference="crooked", by="test", amounts={"promotion": -5, "revenue": 4})

    assert not LedgerEntry.objects.exists()


def test_a_ledger_transaction_without_entries_is_refused() -> None:
    with pytest.raises(IntegrityError, match="sum to zero"), transaction.atomic():
        LedgerTransaction.objects.create(kind="grant", reference="empty", by="test")


@pytest.mark.django_db(transaction=True)
def test_entries_without_their_transaction_are_refused_at_commit() -> None:
    place = LedgerAccount.objects.create(name="promotion")
    missing = uuid7()

    with pytest.raises(IntegrityError), transaction.atomic():
        LedgerEntry.objects.bulk_create(LedgerEntry(transaction_id=missing, ledger_account=place, amount_nanos=nanos) for nanos in (-1, 1))

    assert not LedgerEntry.objects.exists()


def test_a_complete_ledger_transaction_takes_no_more_entries(account: Account) -> None:
    posted = LedgerTransaction.objects.get()
    place = LedgerAccount.objects.get(name="operator")

    with pytest.raises(IntegrityError, match="complete"), transaction.atomic():
        LedgerEntry.objects.create(transaction=posted, ledger_account=place, amount_nanos=1)

    assert posted.entries.count() == 2


@pytest.mark.parametrize("column", ["limit_nanos", "spent_nanos", "leased_nanos"])
def test_a_budget_never_goes_below_zero(account: Account, column: str) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        Budget.objects.filter(account=account).update(**{column: -1})


def test_a_cap_may_be_lowered_below_what_is_spent(account: Account, price: Price) -> None:
    Recorder(account).record(price)

    assert Budget.objects.filter(account=account).update(limit_nanos=1) == 1


def test_a_lease_never_goes_below_zero(account: Account) -> None:
    recorder = Recorder(account)
    recorder.lend(5)

    with pytest.raises(IntegrityError), transaction.atomic():
        Lease.objects.update(amount_nanos=-1)


def test_a_pool_is_never_overdrawn() -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        CreditPool.objects.create(name="free", limit_nanos=5, granted_nanos=6)


def test_no_two_prices_of_a_sku_take_effect_at_one_moment(price: Price) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        Price.objects.create(sku=price.sku, unit="token", unit_nanos=1, effective_from=EPOCH)


def test_no_two_events_of_a_process_have_one_seq(account: Account, price: Price) -> None:
    recorder = Recorder(account)
    recorder.record(price)
    recorder.seq = 0

    with pytest.raises(IntegrityError), transaction.atomic():
        recorder.record(price)


@pytest.mark.parametrize(
    "wrong",
    [{"units": 0}, {"charge_nanos": -1}, {"price": None, "charge_nanos": 1}, {"livemode": False, "charge_nanos": 1}],
    ids=["no units", "negative charge", "charge without price", "charged test call"],
)
def test_an_event_that_makes_no_sense_is_refused(account: Account, price: Price, wrong: dict[str, object]) -> None:
    process = GatewayProcess.objects.create(started_at=EPOCH, heartbeat_at=EPOCH)
    fields: dict[str, object] = {"price": price, "units": 1, "charge_nanos": 200, "livemode": True, **wrong}

    with pytest.raises(IntegrityError), transaction.atomic():
        UsageEvent.objects.create(
            id=uuid7(),
            account=account,
            sku="s",
            unit="token",
            source="k",
            process=process,
            seq=1,
            replayable=False,
            occurred_at=EPOCH,
            **fields,
        )


@pytest.mark.parametrize("is_free", [True, False])
def test_an_hour_has_one_sum_even_without_a_price(account: Account, price: Price, *, is_free: bool) -> None:
    def create() -> None:
        UsageRollup.objects.create(
            account=account, price=None if is_free else price, sku="s", unit="token", livemode=not is_free,
            source="k", hour=EPOCH, events=1, units=1, charge_nanos=0,
        )  # fmt: skip

    create()

    with pytest.raises(IntegrityError), transaction.atomic():
        create()


def test_an_hour_cannot_give_back_more_than_it_charged(account: Account, price: Price) -> None:
    Recorder(account).record(price)

    with pytest.raises(IntegrityError), transaction.atomic():
        UsageRollup.objects.update(refunded_nanos=2001)


def test_an_event_is_refunded_once(account: Account, price: Price) -> None:
    event = Recorder(account).record(price)
    refund_event(event.pk, reason="test", by="test")

    with pytest.raises(IntegrityError), transaction.atomic():
        UsageRefund.objects.create(event=event, account=account, charge_nanos=1, reason="again", by="test", booked_at=EPOCH)
