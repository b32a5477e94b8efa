"""Ten million usage events over 1,000 accounts: what pages, the month's close and the books take then.

`python -m tests.bench.scale [--events 10000000] [--accounts 1000] [--postgresql]` fills a database of its own by bulk
SQL in a temporary folder (some 10 GB, removed at the end) and prints each figure. One account has a tenth of all.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

DAYS, HOURS_A_DAY = 27, 8  # Calls come from 9 to 17 o'clock.
BY = '"by"'
START = datetime(2026, 11, 1, tzinfo=UTC)
CLOSING = datetime(2026, 12, 1, 2, tzinfo=UTC)
SKUS, KEYS, ROUNDS = 5, 4, 30


def main() -> None:
    """Fill, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--accounts", type=int, default=1000)
    parser.add_argument("--postgresql", action="store_true", help="on a server started for it, instead of SQLite")
    asked = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="farebox-scale-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        if asked.postgresql:
            from tests.postgresql import start_postgresql

            server = stack.enter_context(start_postgresql())
            os.environ["DATABASE_URL"] = server.make_database("farebox")
        os.environ["VAR_DIR"] = str(folder)
        os.environ["DJANGO_SETTINGS_MODULE"] = "marketplace.settings"
        os.environ["LOG_LEVEL"] = "WARNING"
        (folder / "static").mkdir()
        import django

        django.setup()
        _run(asked)


def _run(asked: argparse.Namespace) -> None:
    from django.conf import settings as site
    from django.core.management import call_command
    from django.db import connection

    site.STORAGES = {**site.STORAGES, "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}}
    site.ALLOWED_HOSTS = ["*"]
    call_command("migrate", verbosity=0)
    print(f"{connection.vendor}: {asked.events:,} events over {asked.accounts:,} accounts", flush=True)
    with timed("fill"):
        organization, key = _people()
        _fill(organization.account, asked.events, asked.accounts)
    _measure_pages(organization, key)
    _measure_books()
    with timed("close the month"):
        from billing.invoicing import close_periods

        print(f"  {close_periods(now=CLOSING):,} invoices", flush=True)
    _measure_books()


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Print how long a block took, by the clock and in CPU of this process."""
    began, cpu = time.perf_counter(), time.process_time()
    yield
    print(f"{what}: {time.perf_counter() - began:.1f} s ({time.process_time() - cpu:.1f} s CPU of ours)", flush=True)


def _people() -> tuple[Any, str]:
    from allauth.account.models import EmailAddress

    from marketplace.keys import KeySettings, issue_key
    from marketplace.models import User
    from marketplace.tenants import found_organization

    person = User.objects.create_user("ada@example.com", "correct horse battery")
    EmailAddress.objects.create(user=person, email=person.email, verified=True, primary=True)
    organization = found_organization(name="Acme", slug="acme", owner=person, by=person)
    _, secret = issue_key(organization=organization, name="Bench", settings=KeySettings(), by="bench")
    return organization, secret


def _fill(largest: Any, events: int, accounts: int) -> None:  # noqa: PLR0915 (one fill, statement by statement)
    from django.db import connection, transaction
    from django.utils import timezone

    from billing.ledger import grant_credit, open_account
    from billing.models import GatewayProcess, ReceiptHead
    from billing.money import Nanos
    from billing.prices import set_price

    prices = [set_price(sku=f"house/model-{number}@1", unit="token", unit_nanos=200) for number in range(SKUS)]
    with transaction.atomic():
        all_ = [largest, *(open_account(name=f"bench {number}") for number in range(1, accounts))]
        for account in all_:
            grant_credit(account, Nanos(10**15), kind="operator", reference=f"scale:{account.pk}", by="bench")
    process = GatewayProcess.objects.create(started_at=START, heartbeat_at=timezone.now(), delivered_seq=events)
    big = events // 10
    small = (events - big) // (accounts - 1)
    is_sqlite = connection.vendor == "sqlite"
    hex_ = (lambda text: f"printf('%032x', {text})") if is_sqlite else (lambda text: f"lpad(to_hex({text}), 32, '0')::uuid")
    numbers = (
        "WITH RECURSIVE n(k) AS (SELECT 0 UNION ALL SELECT k + 1 FROM n WHERE k + 1 < %d) "
        if is_sqlite
        else "WITH n AS (SELECT generate_series(0, %d - 1) AS k) "
    )
    start = int(START.timestamp())

    def at(worked: str) -> str:
        day = HOURS_A_DAY * 3600
        seconds = f"{start + 9 * 3600} + ({worked}) / {day} * 86400 + ({worked}) %% {day}"
        if is_sqlite:
            return f"strftime('%%Y-%%m-%%d %%H:%%M:%%S', {seconds}, 'unixepoch') || '.000001'"
        return f"to_timestamp({seconds})"

    id_ = hex_("CAST(%s AS bigint) + k" if not is_sqlite else "%s + k")
    budgets = {account.pk: account.budgets.get(subject="account").pk for account in all_}
    with connection.cursor() as cursor:
        if is_sqlite:
            cursor.execute("PRAGMA synchronous = OFF")
            cursor.execute("PRAGMA cache_size = -1000000")
        else:
            cursor.execute("SET synchronous_commit = off")
        first = 0
        for number, account in enumerate(all_):
            count = big if number == 0 else small
            span, skus = DAYS * HOURS_A_DAY * 3600, SKUS if number == 0 else 2
            case = " ".join(f"WHEN {place} THEN '{price.pk.hex if is_sqlite else price.pk}'" for place, price in enumerate(prices))
            price_of = f"CASE k %% {skus} {case} END" + ("" if is_sqlite else "::uuid")
            yes, no = ("1", "0") if is_sqlite else ("true", "false")
            with transaction.atomic():
                cursor.execute(
                    numbers
                    % count
                    + "INSERT INTO billing_usageevent (id, account_id, price_id, sku, unit, units, charge_nanos, livemode, source, budgets, "
                    f"process_id, seq, replayable, occurred_at, cached) SELECT {id_}, %s, {price_of}, 'house/model-' || (k %% {skus}) || '@1', "
                    f"'token', 60 + k %% 40, (60 + k %% 40) * 200, {yes}, '00000000-0000-7000-8000-00000000000' || ((k / 7) %% {KEYS if number == 0 else 1}), '{budgets[account.pk]}', %s, "
                    f"%s + k + 1, {no}, {at(f'CAST(k AS bigint) * {span} / {count}')}, {no} FROM n",
                    [first, uuid(account.pk), uuid(process.pk), first],
                )
                blob = "randomblob(32)" if is_sqlite else "decode(md5((%s + k)::text) || md5(k::text), 'hex')"
                few, many = (
                    ("zeroblob(32)", "zeroblob(64)")
                    if is_sqlite
                    else ("decode(repeat('00', 32), 'hex')", "decode(repeat('00', 64), 'hex')")
                )
                cursor.execute(
                    numbers
                    % count
                    + "INSERT INTO billing_receipt (event_id, account_id, seq, hash, previous, input_hash, model_digest, position, size, path, "
                    f"signature, key_id) SELECT {id_}, %s, k + 1, {blob}, {few}, {few}, '{'d' * 64}', 0, 1, {few}, {many}, '{'0' * 16}' FROM n",
                    [first, uuid(account.pk), *([] if is_sqlite else [first])],
                )
            ReceiptHead.objects.create(account=account, seq=count, hash=bytes(32))
            first += count
        hour = "substr(occurred_at, 1, 13) || ':00:00'" if is_sqlite else "date_trunc('hour', occurred_at)"
        cursor.execute(
            "INSERT INTO billing_usagerollup (account_id, hour, sku, unit, source, livemode, price_id, events, units, charge_nanos, "
            f"refunded_events, refunded_units, refunded_nanos) SELECT account_id, {hour}, sku, unit, source, livemode, price_id, "
            f"COUNT(*), SUM(units), SUM(charge_nanos), 0, 0, 0 FROM billing_usageevent GROUP BY account_id, {hour}, sku, unit, source, livemode, price_id"
        )
        cursor.execute(
            "UPDATE billing_budget SET spent_nanos = (SELECT COALESCE(SUM(charge_nanos), 0) FROM billing_usagerollup "
            "WHERE billing_usagerollup.account_id = billing_budget.account_id) WHERE subject = 'account'"
        )
        with transaction.atomic():  # Foreign keys are checked at its end.
            _fill_postings(cursor, is_sqlite=is_sqlite)
        cursor.execute("ANALYZE")
        if is_sqlite:
            cursor.execute("PRAGMA synchronous = FULL")
            cursor.execute("PRAGMA cache_size = -2000")
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        cursor.execute("SELECT COUNT(*) FROM billing_usagerollup")
        print(f"  {first:,} events and receipts, {cursor.fetchone()[0]:,} hourly sums", flush=True)


def _fill_postings(cursor: Any, *, is_sqlite: bool) -> None:
    """Post every hour to the ledger, as the hourly task would have by then."""
    hex_ = "printf('%032x', h.n)" if is_sqlite else "lpad(to_hex(h.n), 32, '0')::uuid"
    zero = "printf('%032x', 0)" if is_sqlite else "lpad('', 32, '0')::uuid"
    now = "'2026-11-28 00:00:00.000001'"
    cursor.execute(
        "CREATE TEMPORARY TABLE h AS SELECT row_number() OVER () AS n, account_id, hour, sku, price_id, unit, SUM(events) AS events, "
        "SUM(units) AS units, SUM(charge_nanos) AS charge FROM billing_usagerollup GROUP BY account_id, hour, sku, price_id, unit"
    )
    cursor.execute("INSERT INTO billing_ledgeraccount (name, currency) VALUES ('revenue', 'usd') ON CONFLICT DO NOTHING")
    for name, sign in (("h.account_id = l.account_id", "-"), ("l.name = 'revenue'", "")):
        cursor.execute(
            f"INSERT INTO billing_ledgerentry (transaction_id, ledger_account_id, amount_nanos) SELECT {hex_}, l.id, {sign}h.charge "
            f"FROM h JOIN billing_ledgeraccount l ON {name}"
        )
    cursor.execute(
        f"INSERT INTO billing_ledgertransaction (id, kind, reference, {BY}, created_at) "
        f"SELECT {hex_}, 'usage', 'usage:' || h.n, 'system', {now} FROM h"
    )
    month = "'2026-11-01 00:00:00'"
    cursor.execute(
        "INSERT INTO billing_usageposting (id, account_id, hour, sku, price_id, unit, number, kind, period, events, units, charge_nanos, "
        "fee_nanos, share_nanos, fee_basis_points, range_events, first_event, last_event, merkle_root, transaction_id, created_at) "
        f"SELECT {hex_}, account_id, hour, sku, price_id, unit, 1, 'usage', {month}, events, units, charge, charge, 0, 10000, events, "
        f"{zero}, {zero}, '', {hex_}, {now} FROM h"
    )
    print(f"  {cursor.rowcount:,} postings", flush=True)


def uuid(value: Any) -> str:
    """Return a UUID as the database's driver takes it."""
    from billing.sql import uuid_value

    return uuid_value(value)


def _measure_pages(organization: Any, key: str) -> None:
    from django.test import Client

    from marketplace.models import User

    person = Client()
    person.force_login(User.objects.get(email="ada@example.com"))
    program = Client(headers={"authorization": f"Bearer {key}"})
    for path in (
        "/dashboard/",
        "/dashboard/?period=30d",
        "/dashboard/live/",
        "/usage/",
        "/usage/?by=key&period=30d",
        "/usage/?by=day&period=90d",
    ):
        _latency(path, lambda path=path: person.get(path))
    for path in ("/v1/usage", "/v1/usage?group_by=model", "/v1/usage?group_by=key", "/v1/usage?group_by=hour", "/v1/requests"):
        _latency(path, lambda path=path: program.get(path))


def _latency(what: str, ask: Callable[[], Any]) -> None:
    took = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        reply = ask()
        took.append((time.perf_counter() - began) * 1000)
    took.sort()
    print(f"GET {what}: {reply.status_code}, median {median(took):.1f} ms, p95 {took[int(len(took) * 0.95)]:.1f} ms", flush=True)


def _measure_books() -> None:
    from billing import books

    with timed("check the books whole"):
        print(f"  {len(books.check_books())} differences", flush=True)


if __name__ == "__main__":
    sys.exit(main())
