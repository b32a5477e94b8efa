"""The form of a plan: for its provider's page and for the operator's."""

from collections.abc import Iterable
from typing import Any

from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from billing.errors import AmountMalformed
from billing.ids import public_id
from billing.models import Plan
from billing.money import parse_amount
from billing.pricing import Shape


class PlanForm(forms.Form):
    """A plan; `facts` returns what it is made of."""

    name = forms.CharField(label=gettext_lazy("Name"), max_length=80)
    code = forms.SlugField(
        label=gettext_lazy("Short name on bills"), max_length=20, help_text=gettext_lazy("Letters, digits and hyphens, such as “team”.")
    )
    fee = forms.CharField(
        label=gettext_lazy("Monthly fee"), max_length=20, help_text=gettext_lazy("In currency units, such as 49 or 12.50.")
    )
    unit = forms.ChoiceField(
        label=gettext_lazy("Unit"),
        choices=[
            ("call", gettext_lazy("Call")),
            ("token", gettext_lazy("Token")),
            ("row", gettext_lazy("Row")),
            ("byte", gettext_lazy("Byte")),
        ],
        help_text=gettext_lazy("The one that the model is sold by; what is sold by others is not covered."),
    )
    included_units = forms.IntegerField(
        label=gettext_lazy("Included units of a month"), required=False, min_value=1, help_text=gettext_lazy("Empty: without limit.")
    )
    quota = forms.ChoiceField(
        label=gettext_lazy("When they are used up"),
        choices=[
            ("hard", gettext_lazy("Refuse calls until the next month")),
            ("soft", gettext_lazy("Charge further units")),
        ],
    )
    overage = forms.CharField(
        label=gettext_lazy("Price of a further unit"),
        max_length=20,
        required=False,
        help_text=gettext_lazy("Of a plan that charges further units."),
    )
    rate_per_minute = forms.IntegerField(
        label=gettext_lazy("Calls a minute"), required=False, min_value=1, help_text=gettext_lazy("Empty: as without a plan.")
    )

    replaces = forms.ChoiceField(
        label=gettext_lazy("Instead of"),
        required=False,
        help_text=gettext_lazy("The plan that you choose takes nobody new; who has it keeps it."),
    )

    def __init__(self, *args: Any, offered: Iterable[Plan] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._offered = {public_id("plan", plan.pk): plan for plan in offered}
        choices = [(identity, f"{plan.name} ({plan.code})") for identity, plan in self._offered.items()]
        self.fields["replaces"].choices = [("", _("No other plan")), *choices]  # type: ignore[attr-defined]
        if not choices:
            del self.fields["replaces"]

    @property
    def replaced(self) -> Plan | None:
        """The plan that this one is made instead of, once the form is valid."""
        return self._offered.get(self.cleaned_data.get("replaces", ""))

    def clean_fee(self) -> int:
        """Return the fee in nanos."""
        return _amount(self.cleaned_data["fee"])

    def clean_overage(self) -> int | None:
        """Return the price in nanos."""
        text = self.cleaned_data["overage"]
        return _amount(text) if text.strip() else None

    def facts(self) -> dict[str, Any]:
        """Return what `plans.offer_plan` makes it of, once the form is valid."""
        fields = self.cleaned_data
        overage = fields["overage"]
        # A plan without limit refuses nothing: whatever the form says of what is beyond.
        is_limited = fields["included_units"] is not None
        return {
            "code": fields["code"],
            "name": fields["name"],
            "fee_nanos": fields["fee"],
            "unit": fields["unit"],
            "included_units": fields["included_units"],
            "quota": fields["quota"] if is_limited else "soft",
            "overage": None if overage is None else Shape(unit_nanos=overage),
            "rate_per_minute": fields["rate_per_minute"],
        }


def _amount(text: str) -> int:
    try:
        return parse_amount(text.strip())
    except AmountMalformed:
        raise forms.ValidationError(_("Write an amount such as 12.50.")) from None
