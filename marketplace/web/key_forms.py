"""The forms of the keys page: text to checked settings."""

import ipaddress
from collections.abc import Sequence
from datetime import UTC, datetime, time, timedelta
from typing import Any, Final

from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from billing.errors import AmountMalformed
from billing.money import parse_amount, to_decimal_string
from marketplace.amounts import SYMBOLS, in_currency
from marketplace.keys import SCOPES, KeySettings
from marketplace.models import ApiKey

_MAX_CIDRS: Final = 50
_MAX_RATE: Final = 1_000_000


class AmountField(forms.CharField):
    """An amount of money in the account's currency; cleans to nanos, or None where left empty."""

    def __init__(self, **kwargs: Any) -> None:
        widget = forms.TextInput(attrs={"inputmode": "decimal", "autocomplete": "off"})
        super().__init__(max_length=20, required=False, widget=widget, **kwargs)

    def clean(self, value: Any) -> int | None:
        """Return the amount in nanos."""
        text = super().clean(value).strip().lstrip("".join(SYMBOLS.values())).strip()
        if not text:
            return None
        try:
            return parse_amount(text)
        except AmountMalformed:
            raise forms.ValidationError(_("Write an amount such as 12.50.")) from None


class KeyForm(forms.Form):
    """What a new key is called and what it may do."""

    name = forms.CharField(
        label=gettext_lazy("Name"), max_length=80, help_text=gettext_lazy("Where it is used: “laptop”, “production worker”.")
    )
    mode = forms.ChoiceField(
        label=gettext_lazy("Mode"),
        choices=[
            ("live", gettext_lazy("Live: calls are charged")),
            ("test", gettext_lazy("Test: the same models, free and slow")),
        ],
        initial="live",
        widget=forms.RadioSelect,
    )
    kind = forms.ChoiceField(label=gettext_lazy("Kind"), choices=ApiKey.Kind, initial=ApiKey.Kind.SECRET)
    scopes = forms.MultipleChoiceField(
        label=gettext_lazy("Scopes of a restricted key"),
        choices=[(scope, scope) for scope in SCOPES],
        initial=["predict"],
        required=False,
        widget=forms.CheckboxSelectMultiple,
    )
    monthly_cap = AmountField(
        label=in_currency(gettext_lazy("Monthly cap")), help_text=gettext_lazy("Calls that could go beyond it are refused. Empty: no cap.")
    )
    expires_on = forms.DateField(
        label=gettext_lazy("Last day"),
        required=False,
        widget=forms.DateInput(attrs={"type": "date"}),
        help_text=gettext_lazy("It works to the end of that day, UTC. Empty: until revoked."),
    )
    rate_per_minute = forms.IntegerField(
        label=gettext_lazy("Calls per minute"),
        required=False,
        min_value=1,
        max_value=_MAX_RATE,
        help_text=gettext_lazy("Empty: the site’s default."),
    )
    allowed_models = forms.MultipleChoiceField(
        label=gettext_lazy("Only these models"),
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text=gettext_lazy("None chosen: every model."),
    )
    allowed_cidrs = forms.CharField(
        label=gettext_lazy("Only from these addresses"),
        required=False,
        max_length=4000,
        widget=forms.Textarea(attrs={"rows": 2, "spellcheck": "false", "placeholder": "203.0.113.0/24"}),
        help_text=gettext_lazy("One network per line. Empty: from anywhere."),
    )

    def __init__(self, *args: Any, model_paths: Sequence[str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        models = self.fields["allowed_models"]
        assert isinstance(models, forms.MultipleChoiceField)
        models.choices = [(path, path) for path in model_paths]

    def clean_allowed_cidrs(self) -> list[str]:
        """Return the networks in their plain form."""
        networks = []
        for text in self.cleaned_data["allowed_cidrs"].split():
            try:
                networks.append(str(ipaddress.ip_network(text.strip(","), strict=False)))
            except ValueError:
                raise forms.ValidationError(_("“%(text)s” is not a network such as 203.0.113.0/24.") % {"text": text[:60]}) from None
        if len(networks) > _MAX_CIDRS:
            raise forms.ValidationError(_("At most %(limit)s networks.") % {"limit": _MAX_CIDRS})
        return networks

    def clean(self) -> dict[str, Any]:
        """Refuse a restricted key that could do nothing."""
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if cleaned.get("kind") == ApiKey.Kind.RESTRICTED and not cleaned.get("scopes"):
            self.add_error("scopes", _("Choose at least one scope, or the key can do nothing."))
        return cleaned

    def settings(self) -> KeySettings:
        """Return the checked settings."""
        cleaned = self.cleaned_data
        kind = ApiKey.Kind(cleaned["kind"])
        day = cleaned["expires_on"]
        return KeySettings(
            kind=kind,
            livemode=cleaned["mode"] == "live",
            scopes=cleaned["scopes"] if kind is ApiKey.Kind.RESTRICTED else (),
            allowed_models=cleaned["allowed_models"],
            allowed_cidrs=cleaned["allowed_cidrs"],
            rate_per_minute=cleaned["rate_per_minute"],
            monthly_cap_nanos=cleaned["monthly_cap"],
            expires_at=datetime.combine(day + timedelta(days=1), time.min, tzinfo=UTC) if day else None,
        )


class CapForm(forms.Form):
    """What a key may spend in a month."""

    monthly_cap = AmountField(
        label=in_currency(gettext_lazy("Monthly cap")),
        help_text=gettext_lazy("Below what is spent already, it stops the key at once. Empty: no cap."),
    )

    @classmethod
    def of(cls, key: ApiKey) -> "CapForm":
        """Return the form filled with a key's cap."""
        cap = key.monthly_cap_nanos
        return cls(initial={"monthly_cap": "" if cap is None else to_decimal_string(cap, places=2)})


class RotationForm(forms.Form):
    """How long the old key goes on working."""

    grace = forms.ChoiceField(
        label=gettext_lazy("The old key works for"),
        choices=[
            ("24h", gettext_lazy("24 hours more")),
            ("1h", gettext_lazy("1 hour more")),
            ("7d", gettext_lazy("7 days more")),
            ("0", gettext_lazy("no longer: it ends now")),
        ],
    )
