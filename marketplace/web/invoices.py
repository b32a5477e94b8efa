"""Invoices: the open month and the closed ones, line by line, and the calls that a line is made of."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.http import Http404, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from billing.ids import parse_public_id, public_id
from billing.invoicing import Bill, upcoming_invoice
from billing.models import CreditGrant, Invoice, Price
from billing.usage import events_for
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
    account = request.organization.account
    events = events_for(account, since=sheet.starts_at, until=sheet.ends_at, sku=sku, after=after, limit=_PAGE + 1)
    context: dict[str, Any] = {
        "sheet": sheet,
        "sku": sku,
        "events": events[:_PAGE],
        "older": public_id("req", events[_PAGE - 1].pk) if len(events) > _PAGE else "",
        "is_first": after is None,
    }
    return render(request, "invoices/events.html", context)


def get_sheet(request: MemberRequest, number: str) -> Sheet:
    """Return one of the organization's invoices.

    Raises:
        Http404: there is none of that number, or it is another organization's.
    """
    account = request.organization.account
    if number == CURRENT:
        return _open_sheet(upcoming_invoice(account, now=timezone.now()))
    invoice = account.invoices.filter(number=number).first()
    if invoice is None:
        raise Http404
    return _closed_sheet(invoice)


def _open_sheet(bill: Bill) -> Sheet:
    prices = Price.objects.in_bulk([line.price_id for line in bill.lines])
    lines = [
        Line(line.sku, line.unit, prices[line.price_id], line.events, line.units, line.charge_nanos, line.amount_cents)
        for line in bill.lines
    ]
    return _sheet(bill, lines, number=CURRENT, is_open=True)


def _closed_sheet(invoice: Invoice) -> Sheet:
    lines = [
        Line(line.sku, line.unit, line.price, line.events, line.units, line.charge_nanos, line.amount_cents)
        for line in invoice.lines.select_related("price").order_by("sku", "price__effective_from")
    ]
    return _sheet(invoice, lines, number=invoice.number, is_open=False)


def _sheet(source: Bill | Invoice, lines: Sequence[Line], *, number: str, is_open: bool) -> Sheet:
    return Sheet(
        number=number,
        is_open=is_open,
        starts_at=source.starts_at,
        ends_at=source.ends_at,
        currency=source.currency,
        lines=lines,
        charge_nanos=sum(line.charge_nanos for line in lines),
        carried_in_nanos=source.carried_in_nanos,
        carried_in_cents=source.carried_in_cents,
        carried_out_nanos=source.carried_out_nanos,
        total_cents=source.total_cents,
    )
