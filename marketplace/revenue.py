"""Statements for people and programs: the months they are of, and their lines as CSV."""

import csv
import io
import re
from datetime import UTC, datetime
from typing import Final

from billing.money import render_percent, to_decimal_string
from billing.periods import month_of
from billing.statements import Statement

_MONTH: Final = re.compile(r"(20[0-9]{2})-(0[1-9]|1[0-2])", re.ASCII)
CSV_COLUMNS: Final = ("month", "version", "price", "unit", "calls", "units", "charge", "refunds", "fee_percent", "fee", "share", "currency")


def find_month(text: str, *, now: datetime) -> datetime | None:
    """Return the first moment of a month such as "2026-11", of the present one for no text; None for anything else."""
    if not text:
        return month_of(now)[0]
    match = _MONTH.fullmatch(text)
    return datetime(int(match[1]), int(match[2]), 1, tzinfo=UTC) if match else None


def render_csv(sheet: Statement) -> str:
    """Return a statement's lines as RFC 4180 CSV; amounts are exact decimals."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(CSV_COLUMNS)
    for line in sheet.lines:
        amounts = [to_decimal_string(amount) for amount in (line.charge, line.refunds)]
        fee = [render_percent(line.fee_basis_points), to_decimal_string(line.fee)]
        facts = [f"{sheet.month:%Y-%m}", line.sku, line.price_id.hex, line.unit, line.events, line.units]
        writer.writerow([*facts, *amounts, *fee, to_decimal_string(line.share), line.currency])
    return text.getvalue()
