"""The form of one budget: its cap, and when to be told."""

from django import forms
from django.http import QueryDict
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from billing.money import NANOS_PER_CENT, to_decimal_string
from marketplace.budgets import MAX_THRESHOLDS, BudgetState
from marketplace.models.caps import BALANCE
from marketplace.web.key_forms import AmountField


class BudgetForm(forms.Form):
    """What can be set of a budget; the balance has no limit to set."""

    limit = AmountField(label=gettext_lazy("Cap"), help_text=gettext_lazy("Empty: no cap."))
    thresholds = forms.CharField(
        label=gettext_lazy("Tell us at, in percent"),
        max_length=60,
        required=False,
        widget=forms.TextInput(attrs={"inputmode": "text", "autocomplete": "off", "placeholder": "50, 80, 100"}),
        help_text=gettext_lazy("By mail to owners and by webhook, once a period. Empty: never."),
    )

    def __init__(self, sent: QueryDict | None = None, *, budget: BudgetState) -> None:
        limit = budget.limit_nanos
        initial = {
            "limit": "" if limit is None else to_decimal_string(limit, places=2 if limit % NANOS_PER_CENT == 0 else 9),
            "thresholds": ", ".join(map(str, budget.thresholds)),
        }
        super().__init__(sent, initial=initial, auto_id=f"{budget.id}_%s")
        if budget.name == BALANCE:
            del self.fields["limit"]

    def clean_thresholds(self) -> list[int]:
        """Return the percentages."""
        words = self.cleaned_data["thresholds"].replace(",", " ").replace("\uff0c", " ").replace("%", " ").split()
        if len(words) > MAX_THRESHOLDS or any(not word.isascii() or not word.isdigit() or not 1 <= int(word) <= 100 for word in words):
            raise forms.ValidationError(
                _("Write at most %(most)s percentages from 1 to 100, such as 50, 80, 100.") % {"most": MAX_THRESHOLDS}
            )
        return [int(word) for word in words]
