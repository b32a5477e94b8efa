"""Fill a database with a month of calls by bulk SQL: events, receipts, the request log, hourly sums, postings.

What the gateway and the hourly task would have written, statement by statement; the receipts' hashes are random, for
what is measured does not look at what they are of. Rows come in the order of their keys, so that indexes grow at their
ends. On PostgreSQL indexes and foreign keys are left out meanwhile: `INSERT ... SELECT` of a server is faster than COPY.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from tests.flows.server import ROOT

START: Final = datetime(2026, 11, 1, tzinfo=UTC)
NOW: Final = datetime(2026, 11, 30, 16, 59, 59, tzinfo=UTC)  # The last call was a moment ago.
DAYS: Final = 30
OPENS_AT, HOURS_A_DAY = 9, 8  # Calls come from 9 to 17 o'clock.
SKUS: Final = 5  # The largest account calls all of them from four keys, the others two from one.
KEYS: Final = 4
EMAIL: Final = "ada@example.com"
_STARTER: Final = ROOT / "inference" / "starter" / "sentiment"
_EVENT: Final = (
    "id, account_id, price_id, sku, unit, units, charge_nanos, livemode, source, budgets, process_id, seq, replayable, cached, occurred_at"
)
_RECEIPT: Final = "event_id, account_id, seq, hash, previous, input_hash, model_digest, position, size, path, signature, key_id"
_REQUEST: Final = (
    "id, organization_id, key_id, version_id, livemode, route, status, code, unit, units, charge_nanos, batch_rows, auth_us, limit_us, "
    "queue_us, infer_us, total_us, occurred_at, reply"
)
_ROLLUP: Final = (
    "account_id, hour, sku, unit, source, livemode, price_id, events, units, charge_nanos, refunded_events, refunded_units, refunded_nanos"
)
_POSTING: Final = (
    "id, account_id, hour, sku, price_id, unit, number, kind, period, events, units, charge_nanos, fee_nanos, share_nanos, "
    "fee_basis_points, range_events, first_event, last_event, first_seq, last_seq, merkle_root, transaction_id, created_at"
)
_GROWN: Final = ("billing_usageevent", "billing_receipt", "marketplace_requestlog", "billing_usagerollup", "billing_usageposting")


@dataclass(frozen=True, slots=True)
class Tenant:
    """Whose calls they are."""

    organization: Any
    keys: Sequence[UUID]
    budget: int
    skus: int


class Dialect:
    """What the two databases write differently."""

    def __init__(self, vendor: str) -> None:
        """`vendor` as Django's connection has it."""
        self.is_sqlite = vendor == "sqlite"
        self.yes, self.no = ("1", "0") if self.is_sqlite else ("true", "false")
        self.hour = "substr(occurred_at, 1, 13) || ':00:00'" if self.is_sqlite else "date_trunc('hour', occurred_at)"
        self.zeros_32, self.zeros_64 = ("zeroblob(32)", "zeroblob(64)") if self.is_sqlite else (_zeros(32), _zeros(64))
        self.posted_at = (
            "strftime('%Y-%m-%d %H:%M:%S', h.hour, '+70 minutes') || '.000001'" if self.is_sqlite else "h.hour + interval '70 min'"
        )
        self.random_32 = "randomblob(32)" if self.is_sqlite else "sha256(int8send(k))"

    def id(self, number: str) -> str:
        """Return the SQL of a row's id, made of a number."""
        return f"printf('%%032x', {number})" if self.is_sqlite else f"lpad(to_hex({number}), 32, '0')::uuid"

    def numbers(self, first: int, count: int) -> str:
        """Return the SQL of the numbers k from `first` on, as the table n."""
        if self.is_sqlite:
            return f"WITH RECURSIVE n(k) AS (SELECT {first} UNION ALL SELECT k + 1 FROM n WHERE k + 1 < {first + count}) "
        return f"WITH n AS (SELECT generate_series({first}::bigint, {first + count - 1}) AS k) "

    def uuid(self, value: UUID) -> str:
        """Return a UUID as a literal."""
        return f"'{value.hex}'" if self.is_sqlite else f"'{value}'::uuid"

    def text(self, value: Any) -> str:
        """Return a text as a literal."""
        return f"'{value}'"

    def one_of(self, number: str, literals: Sequence[str]) -> str:
        """Return the SQL that takes one literal after the other by a number."""
        cases = " ".join(f"WHEN {place} THEN {literal}" for place, literal in enumerate(literals))
        return f"CASE {number} %% {len(literals)} {cases} END"

    def moment(self, worked: str) -> str:
        """Return the SQL of the moment after so many seconds of opening hours since the month began."""
        day = HOURS_A_DAY * 3600
        seconds = f"{int(START.timestamp()) + OPENS_AT * 3600} + ({worked}) / {day} * 86400 + ({worked}) %% {day}"
        if self.is_sqlite:
            return f"strftime('%%Y-%%m-%%d %%H:%%M:%%S', {seconds}, 'unixepoch') || '.000001'"
        return f"to_timestamp({seconds})"


def _zeros(size: int) -> str:
    return f"decode(repeat('00', {size}), 'hex')"


def fill(events: int, accounts: int) -> str:
    """Fill the database of the settings; return a key of the largest account, which has a tenth of all calls."""
    from django.db import connection, transaction
    from django.utils import timezone

    from billing.models import GatewayProcess, ReceiptHead

    sql = Dialect(connection.vendor)
    with transaction.atomic():
        tenants, versions, secret = _make_tenants(accounts)
        process = GatewayProcess.objects.create(started_at=START, heartbeat_at=timezone.now(), delivered_seq=events)
    prices = [_price_of(version) for version in versions]
    big = events // 10
    small = (events - big) // max(1, accounts - 1)
    with connection.cursor() as cursor, _in_bulk(cursor, is_sqlite=sql.is_sqlite):
        first = 0
        for place, tenant in enumerate(tenants):
            count = small if place else big
            with transaction.atomic():
                _fill_calls(cursor, sql, tenant, versions, prices, process=process.pk, first=first, count=count)
                ReceiptHead.objects.create(account=tenant.organization.account, seq=count, hash=bytes(32))
            first += count
        with transaction.atomic():
            _fill_sums(cursor, sql)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
        if sql.is_sqlite:
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        cursor.execute("SELECT COUNT(*) FROM billing_usagerollup")
        print(f"  {first:,} events, receipts and logged requests, {cursor.fetchone()[0]:,} hourly sums", flush=True)
    return secret


def _make_tenants(accounts: int) -> tuple[list[Tenant], list[Any], str]:
    from allauth.account.models import EmailAddress

    from billing.ledger import grant_credit
    from billing.money import Nanos
    from marketplace.keys import KeySettings, issue_key
    from marketplace.models import User
    from marketplace.publishing import examine_folder, list_model, publish_version
    from marketplace.tenants import found_organization

    person = User.objects.create_superuser(EMAIL, "correct horse battery")
    EmailAddress.objects.create(user=person, email=EMAIL, verified=True, primary=True)
    tenants, secret = [], ""
    for number in range(accounts):
        name = f"bench {number}"
        organization = found_organization(name=name, slug=f"bench-{number}", owner=None if number else person, by="bench")
        grant_credit(organization.account, Nanos(10**15), kind="operator", reference=f"scale:{number}", by="bench")
        issued = [
            issue_key(organization=organization, name=f"Key {place}", settings=KeySettings(), by="bench")
            for place in range(1 if number else KEYS)
        ]
        secret = secret or issued[0][1]
        budget = organization.account.budgets.get(subject="account").pk
        tenants.append(Tenant(organization, [key.pk for key, _ in issued], budget, 2 if number else SKUS))
    house = found_organization(name="House", slug="house", owner=None, by="bench")
    examination = examine_folder(_STARTER)
    versions = []
    for number in range(SKUS):
        model = list_model(owner=house, name=f"model-{number}", source=_STARTER, public=True, by="bench")
        versions.append(
            publish_version(model=model, source=_STARTER, unit="token", unit_nanos=200, by="bench", examination=examination),
        )
    return tenants, versions, secret


def _price_of(version: Any) -> UUID:
    from billing.models import Price

    price: UUID = Price.objects.values_list("pk", flat=True).get(sku=version.sku)
    return price


@contextmanager
def _in_bulk(cursor: Any, *, is_sqlite: bool) -> Iterator[None]:
    """Write without flushing; on PostgreSQL without indexes that can come later, and without looking foreign keys up."""
    if is_sqlite:
        cursor.execute("PRAGMA synchronous = OFF")
        cursor.execute("PRAGMA cache_size = -1000000")
        cursor.execute("PRAGMA foreign_keys = OFF")
        yield
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA cache_size = -2000")
        return
    cursor.execute("SET synchronous_commit = off")
    cursor.execute("SET statement_timeout = 0")
    cursor.execute("SET session_replication_role = replica")
    cursor.execute(
        "SELECT c.relname, pg_get_indexdef(i.indexrelid) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid "
        "JOIN pg_class t ON t.oid = i.indrelid WHERE t.relname = ANY(%s) AND NOT i.indisprimary "
        "AND NOT EXISTS (SELECT 1 FROM pg_constraint WHERE conindid = i.indexrelid)",
        [list(_GROWN)],
    )
    indexes = cursor.fetchall()
    for name, _ in indexes:
        cursor.execute(f'DROP INDEX "{name}"')
    yield
    cursor.execute("SET maintenance_work_mem = '1GB'")
    for _, definition in indexes:
        cursor.execute(definition)
    for setting in ("session_replication_role", "synchronous_commit", "statement_timeout", "maintenance_work_mem"):
        cursor.execute(f"RESET {setting}")
    cursor.execute("SET statement_timeout = 0")


def _fill_calls(
    cursor: Any, sql: Dialect, tenant: Tenant, versions: Sequence[Any], prices: Sequence[UUID], *, process: UUID, first: int, count: int
) -> None:
    """Write an account's calls, spread evenly over the month's opening hours."""
    account, organization = sql.uuid(tenant.organization.account_id), sql.uuid(tenant.organization.pk)
    at = sql.moment(f"(k - {first}) * {DAYS * HOURS_A_DAY * 3600} / {count}")
    versions, prices = versions[: tenant.skus], prices[: tenant.skus]
    key, units = "k / 7", "60 + k %% 40"
    sku = sql.one_of("k", [sql.text(version.sku) for version in versions])
    price = sql.one_of("k", [sql.uuid(price) for price in prices])
    source = sql.one_of(key, [sql.text(str(pk)) for pk in tenant.keys])
    numbers, id_ = sql.numbers(first, count), sql.id("k")
    cursor.execute(
        f"{numbers} INSERT INTO billing_usageevent ({_EVENT}) SELECT {id_}, {account}, {price}, {sku}, 'token', {units}, ({units}) * 200, "
        f"{sql.yes}, {source}, '{tenant.budget}', {sql.uuid(process)}, k + 1, {sql.no}, {sql.no}, {at} FROM n",
        [],
    )
    cursor.execute(
        f"{numbers} INSERT INTO billing_receipt ({_RECEIPT}) SELECT {id_}, {account}, k - {first} + 1, {sql.random_32}, {sql.zeros_32}, "
        f"{sql.zeros_32}, '{'d' * 64}', 0, 1, {sql.zeros_32}, {sql.zeros_64}, '{'0' * 16}' FROM n",
        [],
    )
    key_id = sql.one_of(key, [sql.uuid(pk) for pk in tenant.keys])
    version = sql.one_of("k", [sql.uuid(version.pk) for version in versions])
    cursor.execute(
        f"{numbers} INSERT INTO marketplace_requestlog ({_REQUEST}) SELECT {id_}, {organization}, {key_id}, {version}, {sql.yes}, 'predict', "
        f"200, '', 'token', {units}, ({units}) * 200, 1, 20, 10, 900 + k %% 500, 4000 + k %% 3000, 6000 + k %% 4000, {at}, '' FROM n",
        [],
    )


def _fill_sums(cursor: Any, sql: Dialect) -> None:
    """Write the hourly sums and what was spent, and post every hour to the ledger as the hourly task would have by then."""
    cursor.execute(
        f"INSERT INTO billing_usagerollup ({_ROLLUP}) SELECT account_id, {sql.hour}, sku, unit, source, livemode, price_id, COUNT(*), "
        f"SUM(units), SUM(charge_nanos), 0, 0, 0 FROM billing_usageevent GROUP BY account_id, {sql.hour}, sku, unit, source, livemode, price_id"
    )
    cursor.execute(
        "UPDATE billing_budget SET spent_nanos = COALESCE((SELECT SUM(charge_nanos) FROM billing_usagerollup "
        "WHERE billing_usagerollup.account_id = billing_budget.account_id), 0) WHERE subject = 'account'"
    )
    id_, posted_at = sql.id("h.n").replace("%%", "%"), sql.posted_at
    cursor.execute(
        "CREATE TEMPORARY TABLE h AS SELECT row_number() OVER () AS n, account_id, hour, sku, price_id, unit, SUM(events) AS events, "
        "SUM(units) AS units, SUM(charge_nanos) AS charge FROM billing_usagerollup GROUP BY account_id, hour, sku, price_id, unit"
    )
    cursor.execute("INSERT INTO billing_ledgeraccount (name, currency) VALUES ('revenue', 'usd') ON CONFLICT DO NOTHING")
    for name, sign in (("h.account_id = l.account_id", "-"), ("l.name = 'revenue'", "")):
        cursor.execute(
            f"INSERT INTO billing_ledgerentry (transaction_id, ledger_account_id, amount_nanos) SELECT {id_}, l.id, {sign}h.charge "
            f"FROM h JOIN billing_ledgeraccount l ON {name}"
        )
    cursor.execute(
        'INSERT INTO billing_ledgertransaction (id, kind, reference, "by", created_at) '
        f"SELECT {id_}, 'usage', 'usage:' || h.n, 'system', {posted_at} FROM h"
    )
    zero = sql.id("0").replace("%%", "%")
    cursor.execute(
        f"INSERT INTO billing_usageposting ({_POSTING}) SELECT {id_}, account_id, hour, sku, price_id, unit, 1, 'usage', "
        f"'2026-11-01 00:00:00', events, units, charge, charge, 0, 10000, events, {zero}, {zero}, NULL, NULL, '', {id_}, {posted_at} FROM h"
    )
    print(f"  {cursor.rowcount:,} postings", flush=True)
