"""`/v1/invoices`: closed months, and what the current one comes to so far."""

from typing import Any

from django.utils import timezone
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from billing import models, taxing
from billing.ids import public_id
from billing.invoicing import Bill, BillLine, upcoming_invoice
from billing.late_usage import late_calls, seal_before
from billing.models import Price
from billing.money import render_percent
from billing.receipting import published_keys
from billing.tax import TaxRate, rate_of, tax_within
from marketplace.api.authentication import tenant_of
from marketplace.api.documented import operation
from marketplace.api.endpoint import Endpoint, read_query
from marketplace.api.fields import Amount, Cents, Constant, Moment, PublicId, View
from marketplace.api.lists import list_of, page_form, read_page, render_list
from marketplace.api.organization import check_live
from marketplace.errors import NotFound
from marketplace.invoice_taxes import stated_taxes, tax_status_of, taxes_of

TAG = "Invoices"
STATUSES = [("upcoming", "upcoming"), *((status, status) for status in models.Invoice.Status.values)]


class LineView(View):
    """One version at one price. charge = amount + remainder, exactly."""

    sku = serializers.CharField(help_text="owner/model@version")
    unit = serializers.ChoiceField(choices=Price.Unit.values)
    calls = serializers.IntegerField(source="events")
    units = serializers.IntegerField()
    charge = Amount(source="charge_nanos", help_text="The sum of the calls' costs, less refunds.")
    amount = Cents(source="amount_cents", help_text="Rounded once, half to even.")
    remainder = Amount(source="remainder_nanos", help_text="What rounding left; carried to the next invoice.")
    price = serializers.SerializerMethodField(help_text="The price's id, as receipts name it.")
    late_from = Moment(
        allow_null=True,
        default=None,
        help_text="The month that its calls are of, where they were settled after that was closed; else null.",
    )
    merkle_root = serializers.CharField(default="", help_text="Of the calls' receipts, in hexadecimal; empty while the month is open.")

    def get_price(self, line: models.InvoiceLine | BillLine) -> str:
        """Hexadecimal."""
        return line.price_id.hex


class CreditNoteView(View):
    """A part of an invoice that was taken back."""

    id = PublicId("crn")
    number = serializers.CharField()
    created_at = Moment()
    reason = serializers.CharField()
    settlement = serializers.ChoiceField(choices=["credit", "card"])
    lowers_due = serializers.BooleanField(help_text="It was given before the invoice was paid: less is due.")
    total = Cents(source="total_cents", help_text="Tax included.")
    tax = Cents(source="tax_cents")


class TaxView(View):
    """One tax within the total."""

    name = serializers.CharField()
    rate = serializers.CharField(source="percent", help_text="In percent of the net amount.")
    amount = Cents(source="amount_cents")
    reason = serializers.CharField(allow_blank=True, help_text="Stripe's, such as `reverse_charge`; empty for a rate that the site states.")


class InvoiceView(View):
    """One month's bill: drawn from credit, and what no credit covers paid afterwards."""

    object = Constant("invoice")
    id = PublicId("inv", allow_null=True)
    number = serializers.CharField(allow_null=True, help_text="None while the month is open.")
    status = serializers.ChoiceField(choices=STATUSES)
    starts_at = Moment()
    ends_at = Moment()
    currency = serializers.CharField()
    carried_in = Amount(source="carried_in_nanos")
    carried_out = Amount(source="carried_out_nanos")
    total = Cents(source="total_cents", help_text="Includes its tax: total = net + tax.")
    net = Cents(source="net_cents")
    tax = Cents(source="tax_cents")
    tax_name = serializers.CharField(allow_blank=True)
    tax_rate = serializers.CharField(help_text="In percent of the net amount.")
    tax_status = serializers.ChoiceField(
        choices=["known", "waiting", "location", "failed"],
        help_text="Where Stripe computes the tax: whether it has; `location` waits for the customer's address.",
    )
    taxes = TaxView(many=True)
    due = Cents(source="due_cents", help_text="What no credit covered, of an account with a credit line.")
    paid = Cents(source="paid_cents")
    due_at = Moment(allow_null=True)
    hosted_url = serializers.CharField(allow_null=True, help_text="The page on which it is paid.")
    credit_notes = CreditNoteView(many=True)
    lines = LineView(many=True)


class RefundedView(View):
    """A call whose charge was given back in this period."""

    call = serializers.CharField()
    sku = serializers.CharField()
    price = serializers.CharField()
    units = serializers.IntegerField()
    charge = Amount()


class LateCallView(View):
    """A call of an earlier month, settled after that was closed: it is on this invoice instead."""

    call = serializers.CharField()
    late_from = Moment(help_text="The first moment of its month.")


class ReceiptKeyView(View):
    """A public key."""

    id = serializers.CharField()
    algorithm = serializers.ChoiceField(choices=["Ed25519"])
    public_key = serializers.CharField(help_text="32 bytes in hexadecimal.")
    since = serializers.CharField()


class InvoiceDetailView(InvoiceView):
    """An invoice with what `python -m billing.verify` needs beside the receipts."""

    account = serializers.CharField(help_text="As receipts name it.")
    refunds = RefundedView(many=True)
    late_calls = LateCallView(many=True)
    late_after = serializers.IntegerField(help_text="The last_receipt of the invoice before: late calls have higher numbers.")
    last_receipt = serializers.IntegerField(
        allow_null=True,
        help_text="The number of the account's last receipt when the month was closed; what came later is on a later invoice.",
    )
    receipt_keys = ReceiptKeyView(many=True)


InvoicesQuery = page_form("inv", "InvoicesQuery")


def _show(invoice: models.Invoice) -> dict[str, Any]:
    names = ("number", "status", "net_cents", "tax_cents", "tax_name", "due_cents", "paid_cents", "due_at")
    more = {name: getattr(invoice, name) for name in names}
    more |= {"tax_rate": render_percent(invoice.tax_basis_points), "hosted_url": invoice.hosted_url or None}
    more |= {"taxes": list(taxes_of(invoice)), "tax_status": tax_status_of(invoice)}
    return _fields(invoice, list(invoice.lines.all()), id=invoice.pk, credit_notes=list(invoice.credit_notes.all()), **more)


def _show_upcoming(bill: Bill, rate: TaxRate) -> dict[str, Any]:
    tax = tax_within(bill.total_cents, rate.basis_points)
    more = {
        "net_cents": bill.total_cents - tax,
        "tax_cents": tax,
        "tax_name": rate.name,
        "tax_rate": render_percent(rate.basis_points),
        "taxes": stated_taxes(name=rate.name, basis_points=rate.basis_points, amount_cents=tax, is_open=True),
        "tax_status": "waiting" if taxing.is_on() else "known",
        "due_cents": 0,
        "paid_cents": 0,
        "due_at": None,
        "hosted_url": None,
        "credit_notes": [],
    }
    return _fields(bill, list(bill.lines), id=None, number=None, status="upcoming", **more)


def _fields(bill: models.Invoice | Bill, lines: list[models.InvoiceLine] | list[BillLine], **identity: Any) -> dict[str, Any]:
    names = ("starts_at", "ends_at", "currency", "carried_in_nanos", "carried_out_nanos", "total_cents")
    return {**identity, **{name: getattr(bill, name) for name in names}, "lines": lines}


class Invoices(Endpoint):
    """Closed invoices."""

    scope = {"GET": "invoices:read"}

    @operation(
        "list_invoices",
        summary="List invoices",
        tag=TAG,
        query=InvoicesQuery,
        answers=list_of(InvoiceView, "InvoiceList"),
        refusals=["request_malformed"],
    )
    def get(self, request: Request) -> Response:
        """List closed invoices, the newest first."""
        check_live(request)
        query = read_query(request, InvoicesQuery).validated_data
        page = read_page(
            tenant_of(request).account.invoices.select_related("provider_tax").prefetch_related("lines", "credit_notes"),
            query,
            by="starts_at",
        )
        return Response(render_list(page, request, InvoiceView([_show(invoice) for invoice in page.rows], many=True).data))


class UpcomingInvoice(Endpoint):
    """The open month."""

    scope = {"GET": "invoices:read"}

    @operation("get_upcoming_invoice", summary="Show the current month's invoice so far", tag=TAG, answers=InvoiceView)
    def get(self, request: Request) -> Response:
        """Show what the current month comes to so far: exactly the sum of its calls."""
        check_live(request)
        bill = upcoming_invoice(tenant_of(request).account, now=timezone.now())
        return Response(InvoiceView(_show_upcoming(bill, rate_of(tenant_of(request).account))).data)


class Invoice(Endpoint):
    """One closed invoice."""

    scope = {"GET": "invoices:read"}

    @operation("get_invoice", summary="Show an invoice", tag=TAG, answers=InvoiceDetailView, refusals=["not_found"])
    def get(self, request: Request, number: str) -> Response:
        """Show one closed invoice by its number."""
        check_live(request)
        invoice = tenant_of(request).account.invoices.prefetch_related("lines", "credit_notes").filter(number=number).first()
        if invoice is None:
            raise NotFound
        proof = {
            "account": invoice.account_id.hex,
            "refunds": _refunds(invoice),
            "late_calls": [{"call": public_id("req", call), "late_from": month} for call, month in late_calls(invoice)],
            "late_after": seal_before(invoice),
            "last_receipt": invoice.sealed_seq,
            "receipt_keys": published_keys(),
        }
        return Response(InvoiceDetailView({**_show(invoice), **proof}).data)


def _refunds(invoice: models.Invoice) -> list[dict[str, Any]]:
    """Return the refunds booked in an invoice's period, which its lines are less."""
    period = {"booked_at__gte": invoice.starts_at, "booked_at__lt": invoice.ends_at}
    refunds = models.UsageRefund.objects.filter(account=invoice.account_id, event__price__isnull=False, **period).select_related("event")
    return [
        {
            "call": public_id("req", refund.event_id),
            "sku": refund.event.sku,
            "price": refund.event.price_id.hex if refund.event.price_id else "",
            "units": refund.event.units,
            "charge": refund.charge_nanos,
        }
        for refund in refunds.order_by("booked_at", "pk")
    ]
