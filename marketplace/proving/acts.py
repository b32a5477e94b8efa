"""What every scene is made of: an account with credit, a price, and calls as a gateway reports them."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Final, TypeVar
from uuid import UUID

from django.db import connection, connections

from billing.books import check_books
from billing.ids import uuid7
from billing.leases import BudgetSpec
from billing.ledger import balance, grant_credit, open_account
from billing.metering import Meter, Receipt, Usage
from billing.models import Account, Budget, Lease, Price, UsageEvent
from billing.money import Nanos
from billing.periods import EPOCH
from billing.prices import terms_of
from billing.processes import ProcessIdentity
from billing.receipts import Signer
from billing.settling import Settlement, WriteSettlements
from marketplace.proving.findings import Untried, require

T = TypeVar("T")
CREDIT_NANOS: Final = 10_000_000_000
UNIT_NANOS: Final = 200
_PATIENCE_S: Final = 60


def open_rich_account(name: str = "acme") -> Account:
    """Return an account of its own with 10 dollars of credit."""
    opened = open_account(name=name)
    grant_credit(opened, Nanos(CREDIT_NANOS), kind="operator", reference=f"prove:{opened.pk}", by="prove")
    return opened


def database_url() -> str:
    """Return this process's database's address, for another process."""
    at = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite:///{at['NAME']}"
    return f"postgresql://{at['USER']}:{at['PASSWORD']}@{at['HOST']}:{at['PORT']}/{at['NAME']}"


def require_spent(account: Account, charged_nanos: int) -> None:
    """See that an account has spent what its calls come to, that nothing is held on it, and that the books balance.

    Raises:
        Broken: with what differs.
    """
    spent = balance(account).spent
    require(spent == charged_nanos, f"the account has spent {spent} nanos, its calls come to {charged_nanos}")
    held = balance(account).held or Budget.objects.get(account=account, subject="account").leased_nanos
    require(not held, f"{held} nanos are still held")
    wrong = check_books()
    require(not wrong, f"the books: {wrong}")


def make_price(sku: str = "prove/model@1") -> Price:
    """Return a price of 200 nanos per token, since ever."""
    return Price.objects.create(id=uuid7(), sku=sku, unit="token", unit_nanos=UNIT_NANOS, effective_from=EPOCH)


def whole_account(account: Account) -> BudgetSpec:
    """The account's credit, as a caller's control data names it."""
    return BudgetSpec(account_id=account.pk, subject="account", interval="total", limit_nanos=None)


def usage_of(
    account: Account,
    price: Price,
    *,
    units: int = 10,
    livemode: bool = True,
    source: str = "key-1",
    occurred_at: datetime | None = None,
    replayable: bool = False,
) -> Usage:
    """One call's usage."""
    return Usage(
        event_id=uuid7(),
        account_id=account.pk,
        terms=terms_of(price),
        sku=price.sku,
        unit=price.unit,
        units=units,
        livemode=livemode,
        source=source,
        occurred_at=occurred_at or datetime.now(UTC),
        replayable=replayable,
    )


async def call(meter: Meter, budgets: Sequence[BudgetSpec], usage: Usage, *, delivered: bool = True) -> Receipt:
    """Hold, settle, and say that it was delivered, as a gateway does."""
    hold = await meter.hold(budgets, usage.charge_nanos())
    try:
        receipt = await meter.settle(hold, usage)
    finally:
        hold.release()
    if delivered:
        meter.mark_delivered(receipt.seq)
    return receipt


def with_meter(body: Callable[[Meter], Awaitable[T]]) -> T:
    """Run `body` on an event loop with a started meter, and stop that after it."""

    async def run() -> T:
        meter = Meter()
        await meter.start()
        try:
            return await body(meter)
        finally:
            await meter.stop()

    return asyncio.run(run())


async def in_thread(read: Callable[[], T]) -> T:
    """Use the database beside a running event loop."""

    def run() -> T:
        try:
            return read()
        finally:
            connections.close_all()

    return await asyncio.to_thread(run)


async def until(is_so: Callable[[], bool], *, timeout_s: float = _PATIENCE_S) -> None:
    """Wait for something to become so.

    Raises:
        Untried: it did not, in its time.
    """
    deadline = time.monotonic() + timeout_s
    while not is_so():
        if time.monotonic() > deadline:
            message = f"What was waited for did not come to be within {timeout_s:.0f} s."
            raise Untried(message)
        await asyncio.sleep(0.02)


class Recorder:
    """A process that settles calls at once, in the caller's own transaction: for scenes of what comes after."""

    def __init__(self, account: Account, *, signer: Signer | None = None) -> None:
        """Register; without a signer its calls have no receipts."""
        self.signer = signer
        self.identity = ProcessIdentity()
        self.identity.register(delivered_seq=0)
        self.account = account
        self.budget = Budget.objects.get(account=account, subject="account")
        self.seq = 0

    def record(
        self,
        price: Price,
        *,
        units: int = 10,
        livemode: bool = True,
        source: str = "key-1",
        occurred_at: datetime | None = None,
        replayable: bool = False,
    ) -> UsageEvent:
        """Settle one call out of a lease made for it."""
        self.seq += 1
        charge = units * price.unit_nanos if livemode else 0
        self.lend(charge)
        event_id: UUID = uuid7()
        settlement = Settlement(
            process_id=self.identity.id,
            seq=self.seq,
            event_id=event_id,
            account_id=self.account.pk,
            price_id=price.pk if livemode else None,
            sku=price.sku,
            unit=price.unit,
            units=units,
            charge_nanos=charge,
            livemode=livemode,
            source=source,
            occurred_at=occurred_at or datetime.now(UTC),
            replayable=replayable,
            budget_ids=[self.budget.pk] if livemode else [],
        )
        WriteSettlements(lambda: self.identity.id, signer=self.signer).write([settlement])
        return UsageEvent.objects.get(pk=event_id)

    def lend(self, amount_nanos: int) -> None:
        """Lease money to the process."""
        lease, _ = Lease.objects.get_or_create(budget=self.budget, process_id=self.identity.id, defaults={"amount_nanos": 0})
        Lease.objects.filter(pk=lease.pk).update(amount_nanos=lease.amount_nanos + amount_nanos)
        self.budget.refresh_from_db()
        Budget.objects.filter(pk=self.budget.pk).update(leased_nanos=self.budget.leased_nanos + amount_nanos)
