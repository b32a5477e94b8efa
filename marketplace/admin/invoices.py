"""Invoices: closed months and their corrections. Four deeds: a credit note, void, give up, ask for the tax again."""

from typing import Any
from uuid import UUID

from django import forms
from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from unfold.admin import TabularInline
from unfold.decorators import action, display
from unfold.widgets import UnfoldAdminSelectWidget

from billing.credit_notes import creditable_cents
from billing.ids import uuid7
from billing.models import CreditNote, Invoice, InvoiceLine, InvoiceTax
from billing.money import NANOS_PER_CENT
from billing.taxing import find_state
from marketplace.admin.deeds import AmountBackForm, ConfirmForm, ReasonForm, bind, find_target, operator_of, run_deed
from marketplace.admin.facts import FactAdmin, NamedColumns, show_money
from marketplace.invoice_taxes import tax_status_of, taxes_of
from marketplace.postpaid import ask_tax_again, correct_invoice, give_up_invoice, void_invoice


class CreditNoteForm(AmountBackForm):
    """How much of which line is taken back, and where the money goes."""

    line = forms.ChoiceField(widget=UnfoldAdminSelectWidget())
    settlement = forms.ChoiceField(
        choices=CreditNote.Settlement.choices,
        widget=UnfoldAdminSelectWidget(),
        help_text="Credit can be spent on calls; of an unpaid invoice, less is due. Card: of a paid invoice, back to who paid it.",
    )
    field_order = ("line", "amount", "settlement", "reason")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["amount"].help_text = "Tax included, such as 25 or 12.50."


class _Charge:
    """A column of money."""

    @display(description="Charge", ordering="charge_nanos")
    def charge(self, row: Any) -> str:
        """The exact charge."""
        return show_money(row.charge_nanos, row.invoice.currency, places=9)


class NoteInline(TabularInline):
    """What of an invoice was taken back."""

    model = CreditNote
    verbose_name_plural = "Credit notes"
    extra = 0
    can_delete = False
    fields = ("number", "total_cents", "tax_cents", "settlement", "lowers_due", "reason", "by", "created_at")
    readonly_fields = fields

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002 (Django's signature)
        """No: notes are a deed."""
        return False


class LineInline(NamedColumns, _Charge, TabularInline):
    """An invoice's lines."""

    model = InvoiceLine
    verbose_name_plural = "Lines"
    extra = 0
    can_delete = False
    fields = ("shown_sku", "late_from", "unit", "events", "units", "charge", "amount_cents")
    readonly_fields = fields

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002 (Django's signature)
        """No: lines are summed."""
        return False


@admin.register(Invoice)
class InvoiceAdmin(FactAdmin):
    """Closed months."""

    list_display = ("number", "account", "starts_at", "total", "due", "state", "trouble", "created_at")
    list_filter = ("status", ("provider_tax__status", admin.AllValuesFieldListFilter))
    list_select_related = ("account", "provider_tax")
    search_fields = ("number", "account__name", "provider_id")
    inlines = (LineInline, NoteInline)
    fields = (
        "number",
        "account",
        "starts_at",
        "ends_at",
        "currency",
        "total",
        "tax",
        "tax_state",
        "due",
        "paid",
        "state",
        "failure",
        "provider_id",
        "hosted_url",
        "due_at",
        "past_due_at",
        "settled_at",
        "created_at",
    )
    readonly_fields = ("total", "tax", "tax_state", "due", "paid", "state")
    actions_detail = ("credit", "void", "give_up", "ask_tax_again")

    @display(description="Total", ordering="total_cents")
    def total(self, invoice: Invoice) -> str:
        """What it came to, tax included."""
        return show_money(invoice.total_cents * NANOS_PER_CENT, invoice.currency)

    @display(description="Tax in it", ordering="tax_cents")
    def tax(self, invoice: Invoice) -> str:
        """What of it is tax."""
        words = ", ".join(tax.words for tax in taxes_of(invoice)) or "none stated"
        return f"{show_money(invoice.tax_cents * NANOS_PER_CENT, invoice.currency)} ({words})"

    @display(description="Stripe Tax")
    def tax_state(self, invoice: Invoice) -> str:
        """How far the asking is, and why it is no further."""
        found = find_state(invoice)
        if found is None:
            return "not asked"
        recorded = f", in Stripe’s reports as {found.record_id or 'recorded before'}" if found.recorded_at else ""
        return f"{found.status}{recorded}{f': {found.failure}' if found.failure else ''}"

    @display(description="Due", ordering="due_cents")
    def due(self, invoice: Invoice) -> str:
        """What no credit covered."""
        return show_money(invoice.due_cents * NANOS_PER_CENT, invoice.currency)

    @display(description="Paid", ordering="paid_cents")
    def paid(self, invoice: Invoice) -> str:
        """What came in for it."""
        return show_money(invoice.paid_cents * NANOS_PER_CENT, invoice.currency)

    @display(
        description="State",
        ordering="status",
        label={"closed": "success", "paid": "success", "open": "info", "past_due": "danger", "uncollectible": "danger", "void": "warning"},
    )
    def state(self, invoice: Invoice) -> str:
        """What became of it."""
        return invoice.status

    @display(description="Trouble")
    def trouble(self, invoice: Invoice) -> str:
        """Why it could not be collected or taxed, if so."""
        unknown = tax_status_of(invoice) not in {InvoiceTax.Status.KNOWN, InvoiceTax.Status.WAITING}
        return invoice.failure[:60] or (f"tax: {invoice.provider_tax.failure[:60]}" if unknown else "–")

    @action(description="Credit note", url_path="credit", permissions=["deed"], icon="undo")
    def credit(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Take a part of it back."""
        invoice: Invoice = find_target(self, request, object_id)
        left = creditable_cents(invoice)

        def do(fields: Any) -> None:
            reference: UUID = fields["reference"]
            amounts = {int(fields["line"]): fields["amount"]}
            correct_invoice(
                invoice, amounts, settlement=fields["settlement"], reason=fields["reason"], reference=reference, by=operator_of(request)
            )

        form = bind(CreditNoteForm, request, initial={"reference": str(uuid7())})
        field = form.fields["line"]
        assert isinstance(field, forms.ChoiceField)
        field.choices = [
            (str(line.pk), f"{line.name}: {show_money(left[line.pk] * NANOS_PER_CENT, invoice.currency)} left")
            for line in invoice.lines.order_by("sku")
        ]
        warning = "The invoice stays as it is; the note stands beside it, on its page and in its PDF. Its reason is shown to the customer."
        return run_deed(self, request, title=f"Credit note on {invoice}", warning=warning, form=form, do=do, target=invoice)

    @action(description="Void", url_path="void", permissions=["deed"], icon="block")
    def void(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Take it back whole."""
        invoice: Invoice = find_target(self, request, object_id)

        def do(fields: Any) -> None:
            void_invoice(invoice, reason=fields["reason"], by=operator_of(request))

        warning = "Nothing is owed for it any more: what was due is taken out of the revenue."
        return run_deed(self, request, title=f"Void {invoice}", warning=warning, form=bind(ReasonForm, request), do=do, target=invoice)

    @action(description="Give up", url_path="give-up", permissions=["deed"], icon="money_off")
    def give_up(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Mark it as uncollectible."""
        invoice: Invoice = find_target(self, request, object_id)

        def do(fields: Any) -> None:
            give_up_invoice(invoice, reason=fields["reason"], by=operator_of(request))

        warning = "The debt stays, and the account's calls are refused until it is paid."
        return run_deed(self, request, title=f"Give up {invoice}", warning=warning, form=bind(ReasonForm, request), do=do, target=invoice)

    @action(description="Ask for the tax again", url_path="ask-tax", permissions=["deed"], icon="percent")
    def ask_tax_again(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Have Stripe asked again where it refused."""
        invoice: Invoice = find_target(self, request, object_id)

        def do(_: Any) -> None:
            ask_tax_again(invoice, by=operator_of(request))

        warning = "Stripe is asked again for each of the account's invoices whose tax it refused. A new address of the customer does that by itself."
        form = bind(ConfirmForm, request)
        return run_deed(self, request, title=f"Ask for the tax of {invoice}", warning=warning, form=form, do=do, target=invoice)
