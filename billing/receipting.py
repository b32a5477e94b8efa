"""Write receipts with the calls they prove, and read them back made anew from the events."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final, NamedTuple, Protocol
from uuid import UUID

import orjson
from django.db import connection
from django.db.backends.utils import CursorWrapper
from django.db.models import Max, Min, QuerySet
from django.utils import timezone

from billing.ids import public_id
from billing.late_usage import late_of, on_own_lines
from billing.models import Account, Invoice, Receipt, ReceiptKey, UsageEvent
from billing.periods import month_of
from billing.receipts import GENESIS, VERSION, Signed, Signer, leaf_hash, merkle_path, merkle_paths, merkle_root, render_token
from billing.sql import fetch, insert_rows, is_sqlite, time_value, uuid_value, uuid_values

_HEADS: Final = "SELECT account_id, seq, hash FROM billing_receipthead WHERE account_id IN (%s) ORDER BY account_id"
_INSERT: Final = "INSERT INTO billing_receipt (event_id, account_id, seq, hash, previous, input_hash, model_digest, position, size, path, signature, key_id)"
_INSERT_HEADS: Final = "INSERT INTO billing_receipthead (account_id, seq, hash)"
_MOVE_HEADS: Final = "ON CONFLICT (account_id) DO UPDATE SET seq = excluded.seq, hash = excluded.hash"
# A period's calls with a price, each with its receipt's hash if it has one. By the receipts' numbers: so their tree is built.
# The account of the receipt says nothing new, but without it PostgreSQL reads all accounts' receipts for each large account.
_CALLS: Final = (
    "FROM billing_usageevent e LEFT JOIN billing_receipt r ON r.event_id = e.id AND r.account_id = e.account_id "
    "WHERE e.account_id = %s AND e.occurred_at >= %s AND e.occurred_at < %s AND e.price_id IS NOT NULL"
)
_EACH: Final = f"SELECT e.sku, e.unit, e.price_id, e.units, e.charge_nanos, r.hash {_CALLS} ORDER BY r.seq"
# The server sums them up itself, which spares it to send each. A value holds 1 GiB at most, so hashes come in blocks.
_BLOCK: Final = 10_000_000
_SUMMED: Final = (
    "SELECT e.sku, e.unit, e.price_id, COUNT(*), SUM(e.units), SUM(e.charge_nanos), string_agg(r.hash, ''::bytea ORDER BY r.seq) "
    f"{_CALLS} GROUP BY e.sku, e.unit, e.price_id, r.seq / {_BLOCK} ORDER BY r.seq / {_BLOCK}"
)
# A line of an invoice: SKU, price, and the month it is of where that was closed before its calls came.
Line = tuple[str, UUID, datetime | None]
_PAGE: Final = 1000
_ROWS: Final = 5000


class Metered(Protocol):
    """A settled call, as a receipt tells it."""

    event_id: UUID
    account_id: UUID
    price_id: UUID | None
    sku: str
    unit: str
    units: int
    charge_nanos: int
    livemode: bool
    source: str
    occurred_at: datetime
    is_cached: bool
    currency: str
    input_hash: bytes
    model_digest: str
    call: str  # The event's public id where the caller has made it; it costs 2 us.


class Issued(NamedTuple):
    """A receipt that was just written; as a line only where somebody wants it."""

    body: bytes
    key_id: str
    place: int
    size: int
    path: Sequence[bytes]
    signature: bytes

    def token(self) -> str:
        """Return it as replies carry it."""
        return render_token(self.body, key_id=self.key_id, index=self.place, size=self.size, path=self.path, signature=self.signature)


def issue_receipts(cursor: CursorWrapper, items: Sequence[Metered], signer: Signer) -> list[Issued]:
    """Number, chain, sign and insert the receipts of calls that settle together; one signature for all.

    In the settling transaction, after the budgets: the accounts' heads are locked, so that numbers have
    no gap and no twin, in whatever process.
    """
    accounts = [str(account) for account in uuid_values(item.account_id for item in items)]
    heads = _lock_heads(cursor, sorted(set(accounts)))
    bodies, leaves, before = [], [], []
    for item, account in zip(items, accounts, strict=True):
        number, previous = heads.get(account, (0, GENESIS))
        body = canonical_body(item, account=account, seq=number + 1, previous=previous)
        leaf = leaf_hash(body)
        heads[account] = (number + 1, leaf)
        bodies.append(body)
        leaves.append(leaf)
        before.append((account, number, previous))
    root, paths = merkle_paths(leaves)
    size, key_id = len(items), signer.key_id
    signature = signer.sign(root, size)
    rows = [
        (
            item.event_id.hex,
            account,
            number + 1,
            leaf,
            previous,
            item.input_hash,
            item.model_digest,
            place,
            size,
            b"".join(path),
            signature,
            key_id,
        )
        for place, (item, leaf, path, (account, number, previous)) in enumerate(zip(items, leaves, paths, before, strict=True))
    ]
    insert_rows(cursor, _INSERT, rows)
    insert_rows(cursor, _INSERT_HEADS, [(account, *head) for account, head in sorted(heads.items())], tail=_MOVE_HEADS)
    return [Issued(body, key_id, place, size, paths[place], signature) for place, body in enumerate(bodies)]


def _lock_heads(cursor: CursorWrapper, accounts: Sequence[str]) -> dict[str, tuple[int, bytes]]:
    statement = _HEADS % ", ".join(["%s"] * len(accounts))
    rows = fetch(cursor, statement if is_sqlite() else f"{statement} FOR UPDATE", accounts)
    return {UUID(str(account)).hex: (seq, bytes(head)) for account, seq, head in rows}


def _body(item: Metered, *, seq: int, previous: bytes) -> dict[str, Any]:
    """Return a receipt's fields, in the order of their names: that is its canonical form."""
    return {
        "account": item.account_id.hex,
        "cached": item.is_cached,
        "call": item.call or public_id("req", item.event_id),
        "charge_nanos": item.charge_nanos,
        "currency": item.currency,
        "digest": item.model_digest,
        "input": item.input_hash.hex(),
        "key": item.source,
        "livemode": item.livemode,
        "previous": previous.hex(),
        "price": None if item.price_id is None else item.price_id.hex,
        "seq": seq,
        "sku": item.sku,
        "time": item.occurred_at.astimezone(UTC).isoformat(timespec="microseconds"),
        "unit": item.unit,
        "units": item.units,
        "v": VERSION,
    }


@lru_cache(maxsize=4096)
def _quoted(text: str) -> str:
    """Return a text as JSON has it. Few are different: SKUs, units, keys, models."""
    return orjson.dumps(text).decode()


def canonical_body(item: Metered, *, account: str, seq: int, previous: bytes) -> bytes:
    """Return the canonical bytes of `_body`, written straight: half of what a dictionary and a JSON encoder take."""
    moment = item.occurred_at if item.occurred_at.tzinfo is UTC else item.occurred_at.astimezone(UTC)
    price = "null" if item.price_id is None else f'"{item.price_id.hex}"'
    return (
        f'{{"account":"{account}","cached":{"true" if item.is_cached else "false"},"call":{_call_of(item)},'
        f'"charge_nanos":{item.charge_nanos},"currency":{_quoted(item.currency)},"digest":{_quoted(item.model_digest)},'
        f'"input":"{item.input_hash.hex()}","key":{_quoted(item.source)},"livemode":{"true" if item.livemode else "false"},'
        f'"previous":"{previous.hex()}","price":{price},"seq":{seq},'
        f'"sku":{_quoted(item.sku)},"time":"{moment.isoformat(timespec="microseconds")}","unit":{_quoted(item.unit)},'
        f'"units":{item.units},"v":{VERSION}}}'
    ).encode()


def _call_of(item: Metered) -> str:
    call = item.call or public_id("req", item.event_id)
    return f'"{call}"' if call.isidentifier() else orjson.dumps(call).decode()  # Public ids are; they hold nothing to escape.


class WriteReceiptKey:
    """Publishes the signing key's public half. Safe to repeat."""

    def __init__(self, signer: Signer) -> None:
        """`signer` holds the key."""
        self._signer = signer

    def write(self, items: Sequence[Any]) -> list[None]:
        """Write inside the committer's transaction."""
        key = ReceiptKey(pk=self._signer.key_id, public=self._signer.public.hex(), created_at=timezone.now())
        ReceiptKey.objects.bulk_create([key], ignore_conflicts=True)
        return [None] * len(items)


def published_keys() -> list[dict[str, str]]:
    """Return all public keys that receipts of this site were ever signed with, the newest first."""
    return [
        {"id": key.pk, "algorithm": "Ed25519", "public_key": key.public, "since": key.created_at.isoformat()}
        for key in ReceiptKey.objects.order_by("-created_at", "pk")
    ]


def find_receipt(account: Account, event_id: UUID) -> Signed | None:
    """Return an account's receipt of one call, or None where there is none or it is another's."""
    receipt = _rows(account).filter(pk=event_id).first()
    return None if receipt is None else _signed(receipt)


def read_receipts(account: Account, *, since: datetime | None = None, until: datetime | None = None) -> Iterator[Signed]:
    """Yield an account's receipts of calls in [since, until), or of all, in the order of their numbers.

    One that was deleted is missing here, and its neighbours' numbers and hashes tell.
    """
    found = _rows(account)
    if since is not None:
        found = found.filter(event__occurred_at__gte=since)
    if until is not None:
        found = found.filter(event__occurred_at__lt=until)
    yield from _read(found, after=0)


def _read(rows: QuerySet[Receipt], *, after: int) -> Iterator[Signed]:
    """Read page by page: whoever downloads a month takes a while, and no query should."""
    while page := list(rows.filter(seq__gt=after).order_by("seq")[:_PAGE]):
        yield from map(_signed, page)
        after = page[-1].seq


def _rows(account: Account) -> QuerySet[Receipt]:
    return Receipt.objects.filter(account=account).select_related("event__price", "event__account")


def _signed(receipt: Receipt) -> Signed:
    path = bytes(receipt.path)
    return Signed(
        body=_body(_Told(receipt), seq=receipt.seq, previous=bytes(receipt.previous)),
        key_id=receipt.key_id,
        index=receipt.position,
        size=receipt.size,
        path=[path[start : start + 32] for start in range(0, len(path), 32)],
        signature=bytes(receipt.signature),
    )


class _Told:
    """What a stored event tells now, in the words of a settlement."""

    def __init__(self, receipt: Receipt) -> None:
        event: UsageEvent = receipt.event
        self.event_id: UUID = event.pk
        self.account_id: UUID = event.account_id
        self.price_id: UUID | None = event.price_id
        self.sku, self.unit, self.units, self.charge_nanos = event.sku, event.unit, event.units, event.charge_nanos
        self.livemode, self.source, self.occurred_at, self.is_cached = event.livemode, event.source, event.occurred_at, event.cached
        self.currency: str = event.price.currency if event.price else event.account.currency
        self.input_hash, self.model_digest, self.call = bytes(receipt.input_hash), receipt.model_digest, ""


class LineSum(NamedTuple):
    """What an account's calls of one SKU at one price came to in a period."""

    sku: str
    unit: str
    price_id: UUID
    events: int
    units: int
    charge_nanos: int
    root: str  # The Merkle root of their receipts, in hexadecimal; empty without any.


def sums_by_line(account: Account, *, since: datetime, until: datetime) -> list[LineSum]:
    """Sum up a period's calls with a price by SKU and price, each read once.

    Beside the ORM, which costs some 10 us a row: a month may have ten million.
    """
    values = [uuid_value(account.pk), time_value(since), time_value(until)]
    lines: dict[tuple[str, str, Any], _Gathered] = {}
    with connection.cursor() as cursor:
        if is_sqlite():
            _gather_each(cursor, values, lines)
        else:
            _gather_blocks(cursor, values, lines)
    return [
        LineSum(sku, unit, UUID(str(price)), line.events, sum(line.units), sum(line.charges), line.root())
        for (sku, unit, price), line in lines.items()
    ]


@dataclass(slots=True)
class _Gathered:
    """What was read of a line so far, to be summed up at the end: a list's `append` is the cheapest step there is."""

    events: int = 0
    units: list[int] = field(default_factory=list)
    charges: list[int] = field(default_factory=list)
    leaves: list[bytes] = field(default_factory=list)

    def root(self) -> str:
        return merkle_root(self.leaves).hex() if self.leaves else ""


def _gather_each(cursor: CursorWrapper, values: Sequence[Any], lines: dict[tuple[str, str, Any], _Gathered]) -> None:
    cursor.execute(_EACH, values)
    while rows := cursor.fetchmany(_ROWS):
        for sku, unit, price, units, charge, leaf in rows:
            try:
                line = lines[sku, unit, price]
            except KeyError:
                line = lines[sku, unit, price] = _Gathered()
            line.units.append(units)
            line.charges.append(charge)
            if leaf is not None:
                line.leaves.append(leaf)
    for line in lines.values():
        line.events = len(line.units)


def _gather_blocks(cursor: CursorWrapper, values: Sequence[Any], lines: dict[tuple[str, str, Any], _Gathered]) -> None:
    cursor.execute(_SUMMED, values)
    for sku, unit, price, events, units, charge, hashes in cursor:
        line = lines.setdefault((sku, unit, price), _Gathered())
        line.events += int(events)
        line.units.append(int(units))
        line.charges.append(int(charge))
        block = bytes(hashes or b"")
        line.leaves.extend(block[place : place + 32] for place in range(0, len(block), 32))


class Inclusion(NamedTuple):
    """A receipt's place in the tree of its invoice line."""

    sku: str
    price_id: UUID
    root: bytes
    place: int
    size: int
    path: Sequence[bytes]


def find_inclusion(invoice: Invoice, event_id: UUID) -> Inclusion | None:
    """Return the proof that a call's receipt is one of an invoice line's, or None where the invoice has no such receipt."""
    for (sku, price_id, _), leaves in leaves_by_line(invoice).items():
        for index, (event, _) in enumerate(leaves):
            if event == event_id:
                hashes = [leaf for _, leaf in leaves]
                return Inclusion(sku, price_id, merkle_root(hashes), index, len(hashes), merkle_path(hashes, index))
    return None


def leaves_by_line(invoice: Invoice) -> Mapping[Line, list[tuple[UUID, bytes]]]:
    """Return the hashes of the receipts behind an invoice's lines, each in the order of their numbers, with their calls."""
    own = UsageEvent.objects.filter(on_own_lines(invoice), receipt__isnull=False).values_list("sku", "price", "pk", "receipt__hash")
    lines: dict[Line, list[tuple[UUID, bytes]]] = {}
    for sku, price, event, leaf in own.order_by("receipt__seq").iterator(chunk_size=5000):
        lines.setdefault((sku, price, None), []).append((event, bytes(leaf)))
    for line, event, leaf in _late_leaves(invoice.account_id, invoice.starts_at):
        lines.setdefault(line, []).append((event, leaf))
    return lines


def late_roots(account: Account, period: datetime) -> dict[Line, str]:
    """Return the Merkle roots of the late receipts on a month's invoice, in hexadecimal."""
    lines: dict[Line, list[bytes]] = {}
    for line, _, leaf in _late_leaves(account.pk, period):
        lines.setdefault(line, []).append(leaf)
    return {line: merkle_root(leaves).hex() for line, leaves in lines.items()}


def _late_leaves(account_id: UUID, period: datetime) -> Iterator[tuple[Line, UUID, bytes]]:
    columns = ("event__sku", "event__price", "event__occurred_at", "pk", "event__receipt__hash")
    for sku, price, moment, event, leaf in late_of(account_id, period).order_by("event__receipt__seq").values_list(*columns):
        yield (sku, price, month_of(moment)[0]), event, bytes(leaf)


def read_invoice_receipts(invoice: Invoice) -> Iterator[Signed]:
    """Yield the receipts that an invoice is proven by: those of its lines, and what lies between in the chain, so that no gap is one."""
    own = UsageEvent.objects.filter(on_own_lines(invoice)).aggregate(first=Min("receipt__seq"), last=Max("receipt__seq"))
    late = late_of(invoice.account_id, invoice.starts_at).aggregate(first=Min("event__receipt__seq"), last=Max("event__receipt__seq"))
    numbers = [number for number in (*own.values(), *late.values()) if number is not None]
    if numbers:
        yield from _read(_rows(invoice.account).filter(seq__lte=max(numbers)), after=min(numbers) - 1)
