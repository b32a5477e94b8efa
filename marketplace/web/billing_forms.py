"""The forms of the billing page: text to cents."""

from typing import Any

from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from billing.models import AutoRecharge
from billing.money import NANOS_PER_CENT, to_decimal_string
from marketplace.amounts import in_currency
from marketplace.web.key_forms import AmountField


class CentsField(AmountField):
    """An amount that is paid: whole cents, and never left empty."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.required = True

    def clean(self, value: Any) -> int:
        """Return the amount in cents."""
        nanos = super().clean(value)
        if nanos is None or nanos % NANOS_PER_CENT:
            raise forms.ValidationError(_("Write an amount such as 12.50."))
        return nanos // NANOS_PER_CENT


class TopUpForm(forms.Form):
    """How much credit to buy."""

    amount = CentsField(label=in_currency(gettext_lazy("Another amount")))


class RechargeForm(forms.Form):
    """When to buy credit by itself, how much, and how much in a month."""

    threshold = CentsField(label=in_currency(gettext_lazy("When the balance is below")))
    amount = CentsField(label=in_currency(gettext_lazy("Charge the card")))
    monthly_ceiling = CentsField(
        label=in_currency(gettext_lazy("In a month at most")),
        help_text=gettext_lazy("Calendar months in UTC. Top-ups by hand do not count."),
    )

    @classmethod
    def of(cls, recharge: AutoRecharge | None) -> "RechargeForm":
        """Return the form filled with what is set, or with a proposal."""
        if recharge is None:
            return cls(initial={"threshold": "5.00", "amount": "25.00", "monthly_ceiling": "100.00"}, auto_id="recharge_%s")
        values = {
            "threshold": recharge.threshold_nanos,
            "amount": recharge.amount_cents * NANOS_PER_CENT,
            "monthly_ceiling": recharge.monthly_ceiling_cents * NANOS_PER_CENT,
        }
        return cls(initial={name: to_decimal_string(value, places=2) for name, value in values.items()}, auto_id="recharge_%s")

    def settings(self) -> dict[str, int]:
        """Return the checked amounts."""
        cleaned = self.cleaned_data
        return {
            "threshold_nanos": cleaned["threshold"] * NANOS_PER_CENT,
            "amount_cents": cleaned["amount"],
            "monthly_ceiling_cents": cleaned["monthly_ceiling"],
        }
