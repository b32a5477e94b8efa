"""Corrections of closed invoices: new facts beside them. Append-only."""

from django.db import models
from django.db.models import F, Q

from billing.ids import uuid7
from billing.models.invoices import Invoice, InvoiceLine
from billing.models.payments import PaymentRefund


class CreditNote(models.Model):
    """A part of an invoice taken back, with its tax. Append-only."""

    class Settlement(models.TextChoices):
        """Where the money goes."""

        CREDIT = "credit"  # Into the account's credit; of an unpaid invoice, less is due.
        CARD = "card"  # Back to the card that paid the invoice.

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    number = models.CharField(max_length=50, unique=True)
    invoice = models.ForeignKey(Invoice, models.PROTECT, related_name="credit_notes")
    total_cents = models.BigIntegerField()  # Includes its tax.
    tax_cents = models.BigIntegerField(default=0)
    settlement = models.CharField(max_length=10, choices=Settlement)
    lowers_due = models.BooleanField(default=False)  # Given while the invoice was unpaid.
    reason = models.CharField(max_length=200)
    by = models.CharField(max_length=120)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(total_cents__gt=0), name="credit_note_positive")]

    def __str__(self) -> str:
        return self.number


class CreditNoteLine(models.Model):
    """What of one invoice line is taken back. Append-only."""

    note = models.ForeignKey(CreditNote, models.PROTECT, related_name="lines")
    line = models.ForeignKey(InvoiceLine, models.PROTECT, related_name="credit_note_lines")
    amount_cents = models.BigIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["note", "line"], name="credit_note_line_once"),
            models.CheckConstraint(condition=Q(amount_cents__gt=0), name="credit_note_line_positive"),
        ]

    def __str__(self) -> str:
        return f"{self.line_id}: {self.amount_cents} cents"


class InvoiceRefund(models.Model):
    """A payment of an invoice given back to its card, by a credit note of ours or at the provider. Its status moves forward."""

    id = models.UUIDField(primary_key=True, editable=False)  # Derived from the provider's id.
    invoice = models.ForeignKey(Invoice, models.PROTECT, related_name="refunds")
    # What it takes back of the invoice; None where all of its lines had been taken back before.
    note = models.OneToOneField(CreditNote, models.PROTECT, null=True, related_name="refund")
    refund_id = models.CharField(max_length=80, unique=True)  # The provider's.
    amount_cents = models.BigIntegerField()
    owed_cents = models.BigIntegerField(default=0)  # What of it no note covers: it had paid what was owed from before, and is owed again.
    status = models.CharField(max_length=10, choices=PaymentRefund.Status, default=PaymentRefund.Status.PENDING)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(amount_cents__gt=0, owed_cents__gte=0, owed_cents__lte=F("amount_cents")), name="invoice_refund_adds_up"
            )
        ]

    def __str__(self) -> str:
        return f"{self.amount_cents} cents, {self.status}"
