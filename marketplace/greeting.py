"""What the command line says to whoever starts the site: secrets once, and the first call ready to paste."""

import sqlite3
from typing import Final

from django.conf import settings

from marketplace.checks import has_wal_reset_bug
from marketplace.starter import DEMO_CREDIT, DEMO_SLUG, OPERATOR_EMAIL, TOKEN_PRICE, Started

_MANAGE: Final = ".venv/bin/python manage.py"


def describe_started(started: Started) -> list[str]:
    """Return lines about what was made, with the secrets that are never shown again."""
    lines = []
    if started.version:
        lines.append(f"Catalogue: {started.version.sku} published at ${TOKEN_PRICE / 1000:.2f} per million tokens.")
    if started.demo_key:
        lines.append(f"Organization {DEMO_SLUG}: made, with ${DEMO_CREDIT / 1e9:.2f} of credit. Its key, shown only now:")
        lines.append(f"    {started.demo_key}")
    if started.operator_password:
        lines.append("Operator: made. The login, shown only now:")
        lines.append(f"    {OPERATOR_EMAIL}    {started.operator_password}")
    return lines


def describe_ready(*, key: str | None) -> list[str]:
    """Return lines that tell where the site is, and how to make the first call; `{seconds}` is still to be filled in."""
    return [
        "",
        f"Farebox is ready at {settings.SITE_URL} (started in {{seconds}} s). Ctrl-C stops it.",
        *_sqlite_warning(),
        *_payments(),
        "",
        *_call_lines(key or "YOUR_KEY"),
        "",
        *([] if key else _way_to_secrets()),
    ]


def _sqlite_warning() -> list[str]:
    if not has_wal_reset_bug():
        return []
    bug = f"SQLite {sqlite3.sqlite_version} has the WAL-reset bug"
    return [f"{bug}: fine for trying, see docs/install.md before you take real money."]


def _payments() -> list[str]:
    if settings.PAYMENTS != "fake":
        return []
    return [f"FAKE Stripe at {settings.STRIPE_FAKE_URL}: no money moves. Top up at {settings.SITE_URL}/billing/"]


def _call_lines(key: str) -> list[str]:
    return [
        f"curl {settings.SITE_URL}/v1/models/farebox/sentiment/predict \\",
        f"  -H 'Authorization: Bearer {key}' \\",
        "  -H 'Content-Type: application/json' \\",
        """  -d '{"input_data": ["a moving, funny film", "two hours I want back"]}'""",
    ]


def _way_to_secrets() -> list[str]:
    return [
        f"A new key:       {_MANAGE} issue_key {DEMO_SLUG}    or {settings.SITE_URL}/keys/",
        f"A new password:  {_MANAGE} changepassword {OPERATOR_EMAIL}",
        "",
    ]
