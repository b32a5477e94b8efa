"""What the provider says of the taxes within a closed invoice."""

from django.db import models
from django.db.models import Q

from billing.models.invoices import Invoice


class InvoiceTax(models.Model):
    """How far the asking is for one invoice's tax: computed by the provider after the close, entered once."""

    class Status(models.TextChoices):
        """What is known."""

        WAITING = "waiting"  # For its answer.
        LOCATION = "location"  # It does not know where the customer lives.
        FAILED = "failed"  # It refused for another reason; the operator has to see to it.
        KNOWN = "known"

    invoice = models.OneToOneField(Invoice, models.PROTECT, primary_key=True, related_name="provider_tax")
    status = models.CharField(max_length=10, choices=Status, default=Status.WAITING)
    # Each tax: name, percent, amount_cents, taxable_cents, reason. All that is printed of it.
    lines = models.JSONField(default=list)
    calculation_id = models.CharField(max_length=80, blank=True, default="")
    record_id = models.CharField(max_length=80, blank=True, default="")  # Of what is owed, in the provider's reports.
    recorded_at = models.DateTimeField(null=True, blank=True)
    failure = models.CharField(max_length=300, blank=True, default="")
    created_at = models.DateTimeField(auto_now_add=True)
    known_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=~Q(status="known") | ~Q(calculation_id=""), name="invoice_tax_known_by_calculation"),
        ]
        indexes = [models.Index(fields=["status"], name="invoice_tax_unknown", condition=~Q(status="known"))]

    def __str__(self) -> str:
        return f"tax of {self.invoice_id}: {self.status}"
