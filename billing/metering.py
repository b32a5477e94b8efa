"""The meter: hold money before a call runs, settle after, and know what was delivered.

`Meter` is all that a gateway uses. It bundles the commit thread, the leases and the identity
of this process.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

from django.conf import settings

from billing import pricing
from billing.committer import GroupCommitter
from billing.errors import BudgetExceeded, CommitInDoubt, QuotaExceeded, StorageUnavailable
from billing.groups import Outcome, Write, WriteKind
from billing.leases import TICK_S, BudgetSpec, Hold, LeaseBook
from billing.lending import GiveLeases, TakeLeasesBack
from billing.money import CURRENCY, Nanos
from billing.pricing import Terms
from billing.rating import CounterKey, ReadCounters, month_key
from billing.receipting import WriteReceiptKey
from billing.receipts import Signer
from billing.refunding import WriteRefunds
from billing.settling import Bill, Settled, Settlement, WriteSettlements

log = logging.getLogger(__name__)

# A commit thread that wrote nothing for so long hangs: statements end after 5 s, and it writes each second.
_SILENT_S: Final = 10.0


# Months of accounts at prices by tiers that are remembered: some 200 bytes each.
_MAX_MONTHS: Final = 50_000


class Usage(NamedTuple):
    """What a call used, and where that belongs."""

    event_id: UUID  # Minted by the gateway, never the client's.
    account_id: UUID
    terms: Terms | None  # As frozen at admission. None: free.
    sku: str
    unit: str
    units: int  # At least 1.
    livemode: bool  # A test call is recorded and free.
    source: str  # Opaque here: the key's id.
    occurred_at: datetime
    replayable: bool  # The reply is stored with it, so a caller that missed it can ask again.
    is_cached: bool = False  # Answered from the cache.
    input_hash: bytes = b""  # SHA-256 of the request's body, for the receipt.
    call: str = ""  # The event's public id, where it is made already.
    model_digest: str = ""  # SHA-256 of the artifact that answered, in hexadecimal.
    bill: Bill | None = None  # Filled in before what is written together is written.

    def charge_nanos(self) -> Nanos:
        """Return what the call costs, at a price that looks at nothing else; 0 for others until they settle."""
        if self.terms is None or not self.livemode or not self.terms.is_plain:
            return Nanos(0)
        return pricing.charge(self.terms, self.units, is_cached=self.is_cached)


class Receipt(NamedTuple):
    """A durable charge. `seq` goes to `Meter.mark_delivered` when the reply has been sent."""

    event_id: UUID
    units: int
    charge_nanos: int
    currency: str | None  # None: free.
    seq: int


class Meter:
    """This process's meter. All methods are called on the event loop that started it."""

    def __init__(self, *, committed: Callable[[float], None] = lambda _: None) -> None:
        """Prepare; `start` starts.

        Args:
            committed: Told how many seconds each group commit took, on the commit thread.
        """
        signer = Signer(settings.RECEIPT_KEY)
        self._delivered = DeliveryMark()
        self._last_seq = 0
        self._to_refund: list[Settlement] = []  # Charges of callers who went away, whose refund could not be written yet.
        self._in_doubt: list[int] = []  # Calls that were refused, and may be charged all the same.
        self._committer = committer = GroupCommitter(delivered=lambda: self._delivered.mark, renewed=self._renewed, committed=committed)
        self._settlements: Final = WriteSettlements(committer.writing_as, signer=signer)
        self._keys: Final = WriteReceiptKey(signer)
        self._refunds: Final = WriteRefunds()
        self._counters: Final = ReadCounters()
        self._months: dict[CounterKey, int] = {}  # At least so many units were used in each.
        self._leases = LeaseBook(committer, give=GiveLeases(committer.writing_as), take_back=TakeLeasesBack(committer.writing_as))
        self._ticker: asyncio.Task[None] | None = None

    @property
    def process_id(self) -> UUID:
        """This process's id, for rows that must be known to be its own. Changes if it was taken for dead."""
        return self._committer.process_id

    @property
    def refusal(self) -> StorageUnavailable | None:
        """Why calls must be refused now, or None."""
        return self._committer.refusal

    @property
    def held_nanos(self) -> int:
        """What running calls hold, on all budgets together."""
        return self._leases.held_nanos()

    async def start(self) -> None:
        """Register this process and open the gate.

        Raises:
            StorageUnavailable: the database cannot be written. Nothing was started.
        """
        await self._committer.start()
        await self._committer.submit(self._keys, None)  # Known before anything is signed with it.
        self._ticker = asyncio.create_task(self._tick())

    async def stop(self) -> None:
        """Write what waits, give all leases back, and close this process's row.

        Calls that have not been settled get StorageUnavailable; end them first.
        """
        if self._ticker is not None:
            self._ticker.cancel()
            await asyncio.gather(self._ticker, return_exceptions=True)
        await self._committer.stop()

    def is_open(self) -> bool:
        """Whether what a call uses could be recorded now."""
        return self._committer.refusal is None

    def is_writing(self) -> bool:
        """Whether the commit thread can write, and has lately: it does each second, whatever there is to do."""
        return self.is_open() and time.monotonic() - self._committer.written_at < _SILENT_S

    def check_open(self) -> None:
        """Refuse a call before it runs while it could not be recorded.

        Raises:
            StorageUnavailable: the last write failed, or the disk is nearly full. It opens by itself.
        """
        refusal = self._committer.refusal
        if refusal is not None:
            raise StorageUnavailable(str(refusal))

    async def highest_charge(self, account_id: UUID, terms: Terms, units: int, *, moment: datetime) -> Nanos:
        """Return the most that a call could cost: what it must hold.

        For a price by tiers it is asked once per month, account and meter how far the month is; what this
        process settles keeps that up. It may be further by now, never less far.

        Raises:
            StorageUnavailable: the database had to be asked and cannot be.
        """
        if terms.is_plain:
            return pricing.highest_charge(terms, units)
        key = month_key(account_id, terms, moment)
        used = self._months.get(key)
        if used is None:
            used = await self._committer.submit(self._counters, key)
            self._note_month(key, used)
        return pricing.highest_charge(terms, units, at_least_used=used)

    def _note_month(self, key: CounterKey, units: int) -> None:
        if len(self._months) >= _MAX_MONTHS and key not in self._months:
            self._months.clear()  # Old months among them; those in use are read again.
        self._months[key] = max(units, self._months.get(key, 0))

    async def hold(self, budgets: Sequence[BudgetSpec], amount_nanos: int, *, quota: BudgetSpec | None = None, units: int = 0) -> Hold:
        """Set money aside on every budget before a call runs; without waiting where the leases suffice.

        Settle or release what is returned, whatever happens.

        Args:
            budgets: From the widest to the narrowest.
            amount_nanos: The most that the call can cost.
            quota: A plan's hard quota, in units; held with the money.
            units: The call's.

        Raises:
            BudgetExceeded: a budget has too little left. Nothing is held.
            QuotaExceeded: the quota has too few units left. Nothing is held.
            StorageUnavailable: the database had to be asked and cannot be written. Nothing is held.
        """
        hold = await self._leases.hold(budgets, amount_nanos)
        if quota is not None:
            try:
                hold.quota = await self._leases.hold((quota,), units)
            except BudgetExceeded as error:
                hold.release()
                limit, used = error.limit_nanos, error.spent_nanos
                raise QuotaExceeded(limit=limit, used=used, asked=units, resets_at=error.resets_at) from None
            except BaseException:
                hold.release()
                raise
        return hold

    async def settle(self, hold: Hold, usage: Usage, *, together: Sequence[Write] = ()) -> Receipt:
        """Charge a call; when this returns, the charge and all of `together` are durable.

        A caller that is cancelled meanwhile gets no reply, so what was charged is refunded.

        Raises:
            StorageUnavailable: nothing was written, the hold is released.
            CommitInDoubt: what was written, if anything, is refunded as soon as the database is back.
            ProcessFenced: this process was taken for dead since the hold was made. Nothing was written.
            Exception: what a kind in `together` refused with. Nothing was written.
            ValueError: the charge is above the hold, or the hold has ended. Nothing was written.
        """
        charge = usage.charge_nanos()
        if charge > hold.amount_nanos:
            message = f"The charge of {charge} nanos is above the {hold.amount_nanos} held."
            raise ValueError(message)
        hold.start_settling()
        self._last_seq = seq = self._last_seq + 1
        settlement = self._settlement(hold, usage, seq, charge)

        def orphaned(outcome: Outcome) -> None:
            self._end_orphan(hold, settlement, outcome)

        try:
            results = await self._committer.submit_together([(self._settlements, settlement), *together], orphaned=orphaned)
        except asyncio.CancelledError:
            raise  # `orphaned` ends the hold when it is known what was written.
        except BaseException as error:
            hold.end_settling(charge_nanos=0)
            self._end_failed(seq, error)
            raise
        settled: Settled = results[0]
        charge = Nanos(settled.charge_nanos)
        hold.end_settling(charge_nanos=charge, units=usage.units)
        if settled.month is not None:
            self._note_month(settled.month, settled.month_units)
        currency = usage.terms.currency if usage.terms is not None else None
        return Receipt(event_id=usage.event_id, units=usage.units, charge_nanos=charge, currency=currency, seq=seq)

    def mark_delivered(self, seq: int) -> None:
        """Note that a reply was sent, as far as can be known. Every receipt must come here.

        If the process dies, charges above the highest gapless mark are refunded.
        """
        self._delivered.add(seq)

    def submit(self, kind: WriteKind, item: object) -> "asyncio.Future[Any]":
        """Queue another kind of write into the next commit; the future brings its result.

        The future fails with StorageUnavailable when nothing could be written.
        """
        return self._committer.submit(kind, item)

    def _settlement(self, hold: Hold, usage: Usage, seq: int, charge: int) -> Settlement:
        is_priced = usage.terms is not None and usage.livemode
        return Settlement(
            process_id=self._committer.process_id,
            seq=seq,
            event_id=usage.event_id,
            account_id=usage.account_id,
            price_id=usage.terms.price_id if usage.terms is not None and is_priced else None,
            sku=usage.sku,
            unit=usage.unit,
            units=usage.units,
            charge_nanos=charge,
            livemode=usage.livemode,
            source=usage.source,
            occurred_at=usage.occurred_at,
            replayable=usage.replayable,
            budget_ids=hold.budget_ids,
            quota_ids=hold.quota_ids,
            is_cached=usage.is_cached,
            terms=usage.terms if usage.terms is not None and is_priced and not usage.terms.is_plain else None,
            held_nanos=hold.amount_nanos,
            bill=usage.bill,
            currency=usage.terms.currency if usage.terms is not None else CURRENCY,
            input_hash=usage.input_hash,
            model_digest=usage.model_digest,
            call=usage.call,
        )

    def _end_failed(self, seq: int, error: BaseException) -> None:
        """Let the mark pass a call that left no event; one that may have left one waits for the renewal, which refunds it."""
        if isinstance(error, CommitInDoubt) and error.process_id == self._committer.process_id:
            self._in_doubt.append(seq)
        else:  # The renewal may have come first: then what was written is refunded by now.
            self._delivered.add(seq)

    def _end_orphan(self, hold: Hold, settlement: Settlement, outcome: Outcome) -> None:
        """End the hold of a call whose caller went away while it was being charged."""
        if isinstance(outcome, Exception):
            hold.end_settling(charge_nanos=0)
            self._end_failed(settlement.seq, outcome)
            return
        hold.end_settling(charge_nanos=settlement.charge_nanos, units=settlement.units)
        if settlement.replayable:
            self._delivered.add(settlement.seq)
            return
        self._refund(settlement)

    def _refund(self, settlement: Settlement) -> None:
        """Give an orphan's charge back. The mark passes only when that is durable; until then a crash refunds it as well."""
        refund = self._committer.submit(self._refunds, settlement)
        refund.add_done_callback(lambda done: self._refunded(settlement, done))

    def _refunded(self, settlement: Settlement, done: "asyncio.Future[Any]") -> None:
        error = done.exception()
        if error is None:
            self._delivered.add(settlement.seq)
        else:  # A tick tries again. Left as it is, the mark would stand, and all later calls be refunded when this process ends.
            log.error("The charge of %s could not be refunded yet: %s", settlement.event_id, error)
            self._to_refund.append(settlement)

    def _renewed(self, process_id: UUID) -> None:
        log.warning("Leases are taken anew as process %s.", process_id)
        self._leases.forget_all()
        in_doubt, self._in_doubt = self._in_doubt, []
        for seq in in_doubt:  # Refunded by now, if they were charged at all.
            self._delivered.add(seq)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self._leases.tick()
            if self._to_refund and self.is_open():
                waiting, self._to_refund = self._to_refund, []
                for settlement in waiting:
                    self._refund(settlement)


class DeliveryMark:
    """The seq up to which every reply was delivered, without a gap."""

    def __init__(self) -> None:
        self.mark = 0  # Read by the commit thread: a whole number is replaced at once.
        self._ahead: set[int] = set()

    def add(self, seq: int) -> None:
        """Note one delivery, in any order."""
        if seq != self.mark + 1:
            if seq > self.mark:
                self._ahead.add(seq)
            return
        mark = seq
        while mark + 1 in self._ahead:
            mark += 1
            self._ahead.remove(mark)
        self.mark = mark
