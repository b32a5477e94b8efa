"""Who an account is on its invoices, and what tax it is charged."""

from django.db import models
from django.db.models import Q

from billing.models.accounts import Account


class BillingDetails(models.Model):
    """An account's name, address and tax id as its next invoices print them."""

    account = models.OneToOneField(Account, models.PROTECT, related_name="billing_details")
    name = models.CharField(max_length=120, blank=True)
    address = models.TextField(max_length=500, blank=True)
    tax_id = models.CharField(max_length=40, blank=True)
    # Set by the operator where the account's tax is not the site's: 0 for reverse charge.
    tax_basis_points = models.PositiveIntegerField(null=True, blank=True)
    tax_name = models.CharField(max_length=40, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(tax_basis_points__isnull=True) | Q(tax_basis_points__lte=10_000), name="tax_rate_possible"),
        ]

    def __str__(self) -> str:
        return self.name or f"details of {self.account_id}"
