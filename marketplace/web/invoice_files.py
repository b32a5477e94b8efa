"""An invoice's files: the PDF, and the calls that its lines are the sums of as CSV."""

import csv
from collections.abc import Iterable, Iterator
from typing import Any, Final

from django.http import HttpResponse, StreamingHttpResponse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from billing.ids import public_id
from billing.models import UsageEvent
from billing.money import Nanos, to_decimal_string
from billing.usage import events_for
from marketplace.web.access import MemberRequest, member_required
from marketplace.web.invoice_pdf import Printed, render_pdf
from marketplace.web.invoices import Line, Sheet, behind, get_sheet
from marketplace.web.tags import cents, money, number, plain_cents, price_words, units_of

# Calls read from the database at once: some 500 kB.
_PAGE: Final = 1_000
_LINE_COLUMNS: Final = ("kind", "what", "unit", "price", "calls", "units", "charge", "amount", "currency", "late_from")
_COLUMNS: Final = ("request", "occurred_at", "sku", "unit", "units", "charge", "currency", "livemode", "refunded")


@require_safe
@member_required
def invoice_pdf(request: MemberRequest, number: str) -> HttpResponse:
    """Answer one invoice as a PDF, in the language of the page."""
    sheet = get_sheet(request, number)
    return HttpResponse(
        render_pdf(_printed(sheet)),
        content_type="application/pdf",
        headers={"Content-Disposition": f'inline; filename="invoice-{sheet.number}.pdf"'},
    )


@require_safe
@member_required
def invoice_calls(request: MemberRequest, number: str) -> StreamingHttpResponse:
    """Answer the calls of an invoice as CSV, newest first; it is sent as it is read, however long it is."""
    sheet = get_sheet(request, number)
    return StreamingHttpResponse(
        _lines(request, sheet),
        content_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="invoice-{sheet.number}-calls.csv"'},
    )


@require_safe
@member_required
def invoice_lines(request: MemberRequest, number: str) -> HttpResponse:
    """Answer an invoice's lines, totals and credit notes as CSV, for a ledger."""
    sheet = get_sheet(request, number)
    disposition = f'attachment; filename="invoice-{sheet.number}-lines.csv"'
    reply = HttpResponse(content_type="text/csv; charset=utf-8", headers={"Content-Disposition": disposition})
    csv.writer(reply).writerows([_LINE_COLUMNS, *_line_rows(sheet)])
    return reply


def _line_rows(sheet: Sheet) -> Iterator[tuple[Any, ...]]:
    for line in sheet.lines:
        charge = to_decimal_string(Nanos(line.charge_nanos))
        yield (
            "line",
            line.sku,
            line.unit,
            line.price.pk.hex,
            line.events,
            line.units,
            charge,
            plain_cents(line.amount_cents),
            sheet.currency,
            line.late_month,
        )
    taxes = [("tax", f"{tax.name} {tax.reason}".strip(), tax.amount_cents) for tax in sheet.taxes]
    amounts = [("carried_in", "", sheet.carried_in_cents), ("total", "", sheet.total_cents), ("net", "", sheet.net_cents)]
    amounts += taxes or [("tax", "" if sheet.tax_status == "known" else sheet.tax_status, sheet.tax_cents)]
    if sheet.due_cents:
        amounts += [("credit", "", -sheet.covered_cents), ("due", "", sheet.due_cents)]
    for kind, what, amount in amounts:
        yield (kind, what, "", "", "", "", "", plain_cents(amount), sheet.currency, "")
    for note in sheet.notes:
        for kind, amount in (("credit_note", note.total_cents), ("credit_note_tax", note.tax_cents)):
            yield (kind, note.number, "", "", "", "", "", plain_cents(-amount), sheet.currency, "")


class _Echo:
    """A file that gives back what is written to it."""

    def write(self, text: str) -> str:
        return text


def _lines(request: MemberRequest, sheet: Sheet) -> Iterator[str]:
    writer = csv.writer(_Echo())
    yield writer.writerow(_COLUMNS)
    for event in _events(request, sheet):
        yield writer.writerow(_row(event, request.organization.account.currency))


def _events(request: MemberRequest, sheet: Sheet) -> Iterable[UsageEvent]:
    """Read page by page: one query over a month would keep a transaction open for as long as the client takes."""
    account = request.organization.account
    for late_from in (None, *sorted({line.late_from for line in sheet.lines if line.late_from}, reverse=True)):
        after = None
        while page := events_for(account, after=after, limit=_PAGE, **behind(sheet, late_from)):
            yield from page
            after = page[-1].pk


def _row(event: UsageEvent, currency: str) -> tuple[Any, ...]:
    return (
        public_id("req", event.pk),
        event.occurred_at.isoformat(),
        event.sku,
        event.unit,
        event.units,
        to_decimal_string(Nanos(event.charge_nanos)),
        currency,
        str(event.livemode).lower(),
        str(hasattr(event, "refund")).lower(),
    )


def _printed(sheet: Sheet) -> Printed:
    lines = [
        [_what(line), price_words(line.price), number(line.events), units_of(line.units, line.unit), money(line.charge_nanos), cents(line.amount_cents)]
        for line in sheet.lines
    ]  # fmt: skip
    totals = [(_("Total"), money(sheet.charge_nanos), cents(sheet.total_cents))]
    if sheet.carried_in_nanos:
        totals.insert(0, (_("Carried in from rounding"), money(sheet.carried_in_nanos), cents(sheet.carried_in_cents)))
    totals += _below(sheet)
    rest = money(sheet.carried_out_nanos)
    notes = [
        _(
            "A line is the sum of its calls less refunds, rounded once to cents, half to even. "
            "What rounding leaves, %(rest)s, is carried to the next invoice."
        )
        % {"rest": rest}
    ]
    if sheet.is_open:
        notes.append(_("The month is open: the figures grow with each call."))
    return Printed(
        title=_("Upcoming invoice") if sheet.is_open else _("Invoice"),
        number="" if sheet.is_open else sheet.number,
        period=f"{sheet.starts_at:%Y-%m-%d} – {sheet.ends_at:%Y-%m-%d} UTC",
        state=_state(sheet),
        issued=f"{sheet.issued_at:%Y-%m-%d}" if sheet.issued_at else "",
        seller=sheet.seller,
        buyer=sheet.buyer,
        currency=sheet.currency.upper(),
        lines=lines,
        totals=totals,
        total_at=1 if sheet.carried_in_nanos else 0,
        notes=notes,
        made_at=timezone.now(),
    )


def _what(line: Line) -> str:
    return f"{line.sku} ({_('late from %(month)s') % {'month': line.late_month}})" if line.late_month else line.sku


def _state(sheet: Sheet) -> str:
    words = {
        "upcoming": _("open"),
        "closed": _("paid from credit"),
        "open": _("to be paid"),
        "past_due": _("past due"),
        "paid": _("paid"),
        "uncollectible": _("uncollectible"),
        "void": _("void"),
    }[sheet.status]
    return f"{words}, {_('due on %(day)s') % {'day': f'{sheet.due_at:%Y-%m-%d}'}}" if sheet.due_at else words


def _below(sheet: Sheet) -> list[tuple[str, str, str]]:
    """Return what stands below the total: its tax, what is due of it, and what was taken back since."""
    rows = []
    if sheet.tax_cents:
        rows.append((_("Net"), "", cents(sheet.net_cents)))
    rows += [(tax.words, "", cents(tax.amount_cents)) for tax in sheet.taxes]
    if sheet.tax_unknown and not sheet.is_open:
        rows.append((sheet.tax_unknown, "", ""))
    if sheet.due_cents:
        covered = _("Owed from before") if sheet.covered_cents < 0 else _("Covered by prepaid credit")
        rows += [(covered, "", cents(-sheet.covered_cents)), (_("Due"), "", cents(sheet.due_cents))]
    for note in sheet.notes:
        words = _("Credit note %(number)s of %(day)s: %(reason)s") % {
            "number": note.number,
            "day": f"{note.created_at:%Y-%m-%d}",
            "reason": note.reason,
        }
        rows.append((words, "", cents(-note.total_cents)))
        if note.tax_cents:
            rows.append((_("Tax in it"), "", cents(-note.tax_cents)))
    return rows
