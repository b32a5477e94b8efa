"""An invoice's files: the PDF, and the calls that its lines are the sums of as CSV."""

import csv
from collections.abc import Iterable, Iterator
from typing import Any, Final

from django.conf import settings
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
from marketplace.web.invoices import Sheet, get_sheet
from marketplace.web.tags import cents, money, number, price_words, units_of

# Calls read from the database at once: some 500 kB.
_PAGE: Final = 1_000
_COLUMNS: Final = ("request", "occurred_at", "sku", "unit", "units", "charge", "currency", "livemode", "refunded")


@require_safe
@member_required
def invoice_pdf(request: MemberRequest, number: str) -> HttpResponse:
    """Answer one invoice as a PDF, in the language of the page."""
    sheet = get_sheet(request, number)
    return HttpResponse(
        render_pdf(_printed(sheet, buyer=request.organization.name)),
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
    account, after = request.organization.account, None
    while True:
        page = events_for(account, since=sheet.starts_at, until=sheet.ends_at, sku=None, after=after, limit=_PAGE)
        yield from page
        if len(page) < _PAGE:
            return
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


def _printed(sheet: Sheet, *, buyer: str) -> Printed:
    lines = [
        [line.sku, price_words(line.price), number(line.events), units_of(line.units, line.unit), money(line.charge_nanos), cents(line.amount_cents)]
        for line in sheet.lines
    ]  # fmt: skip
    totals = [(_("Total"), money(sheet.charge_nanos), cents(sheet.total_cents))]
    if sheet.carried_in_nanos:
        totals.insert(0, (_("Carried in from rounding"), money(sheet.carried_in_nanos), cents(sheet.carried_in_cents)))
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
        state=_("open") if sheet.is_open else _("paid from credit"),
        seller=["Farebox", settings.SITE_URL],
        buyer=[buyer],
        currency=sheet.currency.upper(),
        lines=lines,
        totals=totals,
        notes=notes,
        made_at=timezone.now(),
    )
