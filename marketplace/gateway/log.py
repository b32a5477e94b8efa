"""The request log: answered calls in the commit that settles them, refused ones when there is time."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

from django.utils import timezone

from billing.metering import Meter
from billing.settling import Bill
from billing.sql import insert_rows, open_cursor, time_value, uuid_values
from inference.engine import Inferred
from marketplace.changes import organization_changed
from marketplace.gateway.exchange import Exchange
from marketplace.gateway.replies import Reply
from marketplace.models import ApiKey, Organization

log = logging.getLogger(__name__)

# Refusals waiting to be logged, and logged per key and minute. Past these they are only counted:
# a flood of bad calls must not fill the database.
_MAX_WAITING: Final = 200
_MAX_REFUSALS_PER_MINUTE: Final = 20
# Characters of an organization's first reply that its "first call" page shows.
_MAX_REPLY: Final = 4000
# Of a call that was refused: where it stopped is told by its code.
_NO_STAGES: Final = ((b"auth", 0.0), (b"limit", 0.0))
_COLUMNS: Final = (
    "id, organization_id, key_id, version_id, livemode, route, status, code, unit, units, charge_nanos,"
    " batch_rows, auth_us, limit_us, queue_us, infer_us, total_us, occurred_at, reply"
)
_INSERT: Final = f"INSERT INTO marketplace_requestlog ({_COLUMNS})"


class RequestRecord(NamedTuple):
    """One line of the request log. A named tuple: a frozen dataclass of 18 fields costs 5 us more to make."""

    id: UUID
    organization_id: UUID
    key_id: UUID
    version_id: UUID | None
    livemode: bool
    route: str
    status: int
    code: str
    unit: str
    units: int
    bill: Bill | None  # Filled in by the commit that this is written in; None: nothing was charged.
    batch_rows: int
    auth_us: int
    limit_us: int
    queue_us: int
    infer_us: int
    total_us: int
    occurred_at: datetime
    finish: Callable[[], Reply] | None  # Of an organization's first call, whose reply is kept.
    is_first: bool


class WriteRequests:
    """Inserts request log lines, and marks an organization's first call. After the settlement (30), whose charges they tell."""

    order: Final = 50

    def write(self, items: Sequence[RequestRecord]) -> list[Any]:
        """Write inside the committer's transaction."""
        insert_rows(open_cursor(), _INSERT, _rows(items))
        for item in items:
            if item.is_first:
                self._mark_first_call(item.organization_id)
        return [None] * len(items)

    @staticmethod
    def _mark_first_call(organization_id: UUID) -> None:
        marked = Organization.objects.filter(pk=organization_id, first_call_at__isnull=True).update(first_call_at=timezone.now())
        if marked:
            organization_changed(Organization(pk=organization_id))


class TouchKeys:
    """Writes when keys were last used."""

    def write(self, items: Sequence[tuple[UUID, datetime]]) -> list[Any]:
        """Write inside the committer's transaction."""
        for key_id, used_at in items:
            ApiKey.objects.filter(pk=key_id).update(last_used_at=used_at)
        return [None] * len(items)


REQUESTS = WriteRequests()
TOUCHES = TouchKeys()


def _rows(items: Sequence[RequestRecord]) -> list[tuple[Any, ...]]:
    """Return the lines, in the order of `_COLUMNS`."""
    organizations, keys = uuid_values(item.organization_id for item in items), uuid_values(item.key_id for item in items)
    versions = uuid_values(item.version_id for item in items)
    return [
        (
            item.id.hex,
            organization,
            key,
            version,
            item.livemode,
            item.route,
            item.status,
            item.code,
            item.unit,
            item.units,
            item.bill.charge_nanos if item.bill else 0,
            item.batch_rows,
            item.auth_us,
            item.limit_us,
            item.queue_us,
            item.infer_us,
            item.total_us,
            time_value(item.occurred_at),
            _first_reply(item.finish()) if item.finish else "",
        )
        for item, organization, key, version in zip(items, organizations, keys, versions, strict=True)
    ]


def _first_reply(reply: Reply) -> str:
    """Return the text of a reply as the "first call" page shows it, cut to its room."""
    return reply.body[: reply.text_bytes][: _MAX_REPLY * 4].decode("utf-8", "ignore")[:_MAX_REPLY]


class RequestRecorder:
    """Collects what the request log and the keys' last use need."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._waiting = 0
        self.dropped = 0  # Refusals that were not logged.
        self._minute = 0
        self._refusals: Counter[str] = Counter()  # Of this minute, by key.
        self._used: dict[UUID, datetime] = {}

    def answered(
        self, exchange: Exchange, *, bill: Bill, inferred: Inferred, finish: Callable[[], Reply]
    ) -> tuple[WriteRequests, RequestRecord]:
        """Return the write that logs an answered call; it goes into the settling commit."""
        caller = exchange.caller
        assert caller is not None
        self._used[caller.key_id] = exchange.occurred_at
        is_first = caller.awaits_first_call
        record = self._record(
            exchange,
            status=200,
            bill=bill,
            batch_rows=inferred.batch_rows,
            stages=exchange.stages,
            queue_us=inferred.queue_us,
            infer_us=inferred.infer_us,
            finish=finish if is_first else None,
            is_first=is_first,
        )
        return REQUESTS, record

    def refused(self, exchange: Exchange, *, status: int, code: str) -> None:
        """Log a refused call of a known caller when there is time. Unknown callers have no log."""
        if exchange.caller is None:
            return
        if self._waiting >= _MAX_WAITING or not self._meter.is_open() or not self._may_log(exchange.caller.digest):
            self.dropped += 1
            return
        self._waiting += 1
        self._meter.submit(REQUESTS, self._record(exchange, status=status, code=code)).add_done_callback(self._written)

    def _may_log(self, key: str) -> bool:
        """Count one refusal against its key's minute."""
        minute = int(time.monotonic() / 60)
        if minute != self._minute:
            self._minute, self._refusals = minute, Counter()
        self._refusals[key] += 1
        return self._refusals[key] <= _MAX_REFUSALS_PER_MINUTE

    def _written(self, future: Any) -> None:
        self._waiting -= 1
        if not future.cancelled() and future.exception():
            self.dropped += 1

    @staticmethod
    def _record(
        exchange: Exchange,
        *,
        status: int,
        code: str = "",
        bill: Bill | None = None,
        batch_rows: int = 0,
        stages: Sequence[tuple[bytes, float]] = _NO_STAGES,
        queue_us: int = 0,
        infer_us: int = 0,
        finish: Callable[[], Reply] | None = None,
        is_first: bool = False,
    ) -> RequestRecord:
        caller = exchange.caller
        assert caller is not None
        return RequestRecord(
            id=exchange.request.id,
            organization_id=caller.organization_id,
            key_id=caller.key_id,
            version_id=exchange.version.id if exchange.version else None,
            livemode=caller.livemode,
            route=exchange.route.action if exchange.route else "",
            status=status,
            code=code,
            unit=exchange.terms.unit if exchange.terms else "",
            units=exchange.units,
            bill=bill,
            batch_rows=batch_rows,
            auth_us=int(stages[0][1] * 1e6),
            limit_us=int(stages[1][1] * 1e6),
            queue_us=queue_us,
            infer_us=infer_us,
            total_us=exchange.elapsed_us(),
            occurred_at=exchange.occurred_at,
            finish=finish,
            is_first=is_first,
        )

    async def flush_last_used(self) -> None:
        """Write when keys were last used: every few seconds, not once a call."""
        used, self._used = self._used, {}
        for key_id, used_at in used.items():
            await self._meter.submit(TOUCHES, (key_id, used_at))
