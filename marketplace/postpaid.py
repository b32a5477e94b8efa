"""What the operator decides of organizations that pay afterwards, and what these say of themselves: all on the record."""

from collections.abc import Mapping
from uuid import UUID

from django.db import transaction

from billing import credit_lines, credit_notes, outbox, sending, tax, taxing
from billing.errors import InvoiceNotOpen
from billing.models import BillingDetails, CreditNote, Invoice
from billing.money import Nanos, render_cents, to_decimal_string
from marketplace import audit
from marketplace.models import Organization, User


@transaction.atomic
def give_credit_line(organization: Organization, line_nanos: Nanos, *, reason: str, by: User) -> None:
    """Let an organization pay its months afterwards, up to a line; 0 makes it prepaid again.

    Raises:
        PaymentsOff, CreditLineInvalid: nothing was changed.
    """
    before = organization.account.credit_line_nanos
    credit_lines.set_credit_line(organization.account, line_nanos)
    details = {"before": to_decimal_string(Nanos(before)), "line": to_decimal_string(line_nanos), "reason": reason}
    audit.record(organization, action="credit_line.set", target=organization, by=by, details=details)


@transaction.atomic
def give_tax_rate(organization: Organization, basis_points: int | None, *, name: str, reason: str, by: User) -> None:
    """Give an organization a tax rate of its own; None gives it the site's.

    Raises:
        ValueError: there is no such rate. Nothing was changed.
    """
    tax.set_tax(organization.account, basis_points=basis_points, name=name)
    details = {"basis_points": basis_points, "name": name, "reason": reason}
    audit.record(organization, action="tax_rate.set", target=organization, by=by, details=details)


@transaction.atomic
def change_details(organization: Organization, *, name: str, address: str, tax_id: str, by: User) -> BillingDetails:
    """Set what the organization's next invoices print of it."""
    details = tax.set_details(organization.account, name=name, address=address, tax_id=tax_id)
    audit.record(organization, action="billing_details.set", target=organization, by=by, details={"name": name, "tax_id": tax_id})
    return details


def correct_invoice(invoice: Invoice, amounts: Mapping[int, int], *, settlement: str, reason: str, reference: UUID, by: User) -> CreditNote:
    """Take a part of a closed invoice back by a credit note. Safe to repeat: one note per reference.

    Raises:
        CreditNoteInvalid: nothing was changed.
    """
    with transaction.atomic():
        is_new = not CreditNote.objects.filter(pk=reference).exists()
        asked = {"settlement": settlement, "reason": reason, "reference": reference, "by": by.email}
        note, row = credit_notes.credit_invoice(invoice, amounts, **asked)  # type: ignore[arg-type]  # Named as they are there.
        if is_new:
            details = {"amount": render_cents(note.total_cents), "settlement": settlement, "note": note.number, "reason": reason}
            audit.record(_organization(invoice), action="invoice.corrected", target=invoice.number, by=by, details=details)
    if row is not None:
        sending.deliver(row.pk)
    return note


def void_invoice(invoice: Invoice, *, reason: str, by: User) -> None:
    """Take an unpaid invoice back: nothing is owed for it any more, once the provider has said so.

    One that the provider refused before it was final is cancelled: its draft is deleted there, if there is one.

    Raises:
        InvoiceNotOpen: it is not owed. Nothing was changed.
    """
    _end_invoice(invoice, "invoice.void", "invoice.voided", reason=reason, by=by)


def give_up_invoice(invoice: Invoice, *, reason: str, by: User) -> None:
    """Mark an unpaid invoice as uncollectible: the debt stays, and the credit line stops.

    Raises:
        InvoiceNotOpen: it is not owed, or not final at the provider yet. Nothing was changed.
    """
    if not invoice.hosted_url:
        message = "The invoice is not final yet."
        raise InvoiceNotOpen(message)
    _end_invoice(invoice, "invoice.give_up", "invoice.given_up", reason=reason, by=by)


@transaction.atomic
def ask_tax_again(invoice: Invoice, *, by: User) -> int:
    """Have Stripe asked again for the taxes of an account that it refused; return of how many invoices."""
    asked = taxing.ask_again(invoice.account)
    audit.record(_organization(invoice), action="invoice.tax_asked", target=invoice.number, by=by, details={"invoices": asked})
    return asked


def _end_invoice(invoice: Invoice, kind: str, action: str, *, reason: str, by: User) -> None:
    if not invoice.is_unpaid and not (kind == "invoice.void" and invoice.status == Invoice.Status.UNCOLLECTIBLE):
        message = "The invoice is not owed."
        raise InvoiceNotOpen(message)
    with transaction.atomic():
        row = outbox.enqueue(invoice.account, kind=kind, subject=invoice.pk, parameters={})
        audit.record(_organization(invoice), action=action, target=invoice.number, by=by, details={"reason": reason})
    sending.deliver(row.pk)


def _organization(invoice: Invoice) -> Organization:
    organization: Organization = invoice.account.organization
    return organization
