"""Invoices: the open month and the closed ones, line by line, and the calls that a line is made of."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from django.db.models import F
from django.http import Http404, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from billing import collecting, taxing
from billing.ids import parse_public_id, public_id
from billing.invoicing import Bill, upcoming_invoice
from billing.models import CreditGrant, CreditNote, Invoice, Price
from billing.periods import month_of
from billing.tax import buyer_lines, rate_of, seller_lines, tax_within
from billing.usage import events_for
from marketplace.invoice_taxes import SheetTax, stated_taxes, tax_status_of, taxes_of, unknown_words
from marketplace.web.access import MemberRequest, member_required

CURRENT: Final = "current"  # Stands for the number of the month that is still open.
_PAGE: Final = 50


@dataclass(frozen=True, slots=True)
class Line:
    """One SKU at one price."""

    sku: str
    unit: str
    price: Price
    events: int
    units: int
    charge_nanos: int
    amount_cents: int
    late_from: datetime | None = None  # The month that its calls are of, where that was closed before they came.

    @property
    def late_month(self) -> str:
        """That month as "2026-10", or nothing."""
        return f"{self.late_from:%Y-%m}" if self.late_from else ""


@dataclass(frozen=True, slots=True)
class Sheet:
    """An invoice as it is printed, open or closed."""

    number: str
    is_open: bool
    starts_at: datetime
    ends_at: datetime
    currency: str
    lines: Sequence[Line]
    charge_nanos: int
    carried_in_nanos: int
    carried_in_cents: int
    carried_out_nanos: int
    total_cents: int
    status: str  # Of `Invoice.Status`; "upcoming" while it is open.
    issued_at: datetime | None  # When the month was closed.
    seller: Sequence[str]
    buyer: Sequence[str]
    taxes: Sequence[SheetTax]
    tax_cents: int
    tax_status: str  # "known"; or why the taxes are not.
    due_cents: int  # What no credit covered; 0 where all was.
    owed_cents: int  # What is still to be paid of it.
    pay_at: str  # The provider's page, while it can be paid there.
    due_at: datetime | None
    notes: Sequence[CreditNote]

    @property
    def tax_unknown(self) -> str:
        """What is printed where the taxes are not known."""
        return unknown_words(self.tax_status)

    @property
    def net_cents(self) -> int:
        """The total without its tax."""
        return self.total_cents - self.tax_cents

    @property
    def covered_cents(self) -> int:
        """What credit covered of the total; negative where more was owed from before."""
        return self.total_cents - self.due_cents

    @property
    def covered_minus(self) -> int:
        """The same as it stands below the total."""
        return -self.covered_cents


@require_safe
@member_required
def list_invoices(request: MemberRequest) -> HttpResponse:
    """Show the open month, the closed ones, and the credit that pays for them."""
    account = request.organization.account
    context: dict[str, Any] = {
        "upcoming": upcoming_invoice(account, now=timezone.now()),
        "invoices": account.invoices.all(),
        "grants": CreditGrant.objects.filter(account=account).order_by("-created_at"),
    }
    return render(request, "invoices/list.html", context)


@require_safe
@member_required
def show_invoice(request: MemberRequest, number: str) -> HttpResponse:
    """Show one invoice, ready to print."""
    return render(request, "invoices/invoice.html", {"sheet": get_sheet(request, number)})


@require_safe
@member_required
def list_events(request: MemberRequest, number: str) -> HttpResponse:
    """Show the calls that an invoice's line is the sum of, newest first."""
    sheet = get_sheet(request, number)
    sku = request.GET.get("sku") or None
    before = request.GET.get("before")
    after = parse_public_id("req", before) if before else None
    if before and after is None:
        raise Http404
    late_from = _month(request.GET.get("late") or "")
    events = events_for(request.organization.account, sku=sku, after=after, limit=_PAGE + 1, **behind(sheet, late_from))
    context: dict[str, Any] = {
        "sheet": sheet,
        "sku": sku,
        "late": f"{late_from:%Y-%m}" if late_from else "",
        "events": events[:_PAGE],
        "older": public_id("req", events[_PAGE - 1].pk) if len(events) > _PAGE else "",
        "is_first": after is None,
    }
    return render(request, "invoices/events.html", context)


def behind(sheet: Sheet, late_from: datetime | None = None) -> dict[str, Any]:
    """Return which calls an invoice's lines are of: its own, or those of an earlier month that came late."""
    if late_from is None:
        return {"since": sheet.starts_at, "until": sheet.ends_at, "is_late": False}
    return {"since": late_from, "until": month_of(late_from)[1], "late_on": sheet.starts_at}


def _month(text: str) -> datetime | None:
    if not text:
        return None
    try:
        return datetime.strptime(text, "%Y-%m").replace(tzinfo=UTC)
    except ValueError:
        raise Http404 from None


def get_sheet(request: MemberRequest, number: str) -> Sheet:
    """Return one of the organization's invoices.

    Raises:
        Http404: there is none of that number, or it is another organization's.
    """
    account = request.organization.account
    if number == CURRENT:
        return _open_sheet(request, upcoming_invoice(account, now=timezone.now()))
    invoice = account.invoices.filter(number=number).first()
    if invoice is None:
        raise Http404
    return _closed_sheet(request, invoice)


def _open_sheet(request: MemberRequest, bill: Bill) -> Sheet:
    prices = Price.objects.in_bulk([line.price_id for line in bill.lines])
    lines = [
        Line(line.sku, line.unit, prices[line.price_id], line.events, line.units, line.charge_nanos, line.amount_cents, line.late_from)
        for line in bill.lines
    ]
    account, rate = request.organization.account, rate_of(request.organization.account)
    tax_cents = tax_within(bill.total_cents, rate.basis_points)
    return _sheet(
        bill,
        lines,
        number=CURRENT,
        is_open=True,
        status="upcoming",
        issued_at=None,
        seller=seller_lines(),
        buyer=buyer_lines(account, fallback=request.organization.name),
        taxes=stated_taxes(name=rate.name, basis_points=rate.basis_points, amount_cents=tax_cents, is_open=True),
        tax_cents=tax_cents,
        tax_status="waiting" if taxing.is_on() else "known",
        due_cents=0,
        owed_cents=0,
        pay_at="",
        due_at=None,
        notes=(),
    )


def _closed_sheet(request: MemberRequest, invoice: Invoice) -> Sheet:
    lines = [
        Line(line.sku, line.unit, line.price, line.events, line.units, line.charge_nanos, line.amount_cents, line.late_from)
        for line in invoice.lines.select_related("price").order_by(F("late_from").asc(nulls_first=True), "sku", "price__effective_from")
    ]
    may_pay = invoice.status in collecting.OWED
    return _sheet(
        invoice,
        lines,
        number=invoice.number,
        is_open=False,
        status=invoice.status,
        issued_at=invoice.created_at,
        seller=invoice.seller or seller_lines(),  # Those closed before there were any have none of their own.
        buyer=invoice.buyer or [request.organization.name],
        taxes=taxes_of(invoice),
        tax_cents=invoice.tax_cents,
        tax_status=tax_status_of(invoice),
        due_cents=invoice.due_cents,
        owed_cents=collecting.owed_cents(invoice) if may_pay else 0,
        pay_at=invoice.hosted_url if may_pay else "",
        due_at=invoice.due_at if may_pay else None,
        notes=list(invoice.credit_notes.prefetch_related("lines__line").order_by("created_at")),
    )


def _sheet(source: Bill | Invoice, lines: Sequence[Line], **facts: Any) -> Sheet:
    return Sheet(
        starts_at=source.starts_at,
        ends_at=source.ends_at,
        currency=source.currency,
        lines=lines,
        charge_nanos=sum(line.charge_nanos for line in lines),
        carried_in_nanos=source.carried_in_nanos,
        carried_in_cents=source.carried_in_cents,
        carried_out_nanos=source.carried_out_nanos,
        total_cents=source.total_cents,
        **facts,
    )
