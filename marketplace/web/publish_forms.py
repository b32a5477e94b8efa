"""The forms of the provider's pages: what is said of a model, a version's files, its price and share."""

from collections.abc import Iterable
from datetime import UTC
from typing import Any, Final

from django import forms
from django.conf import settings
from django.core.files.uploadedfile import UploadedFile
from django.utils.translation import gettext_lazy

from billing.models import Price
from marketplace.amounts import in_currency
from marketplace.models import CatalogueModel
from marketplace.models.catalogue import model_name
from marketplace.web.key_forms import AmountField

# A form's file, and the file of a version that it becomes.
_FILES: Final = {
    "model": "model.onnx",
    "pipeline": "pipeline.json",
    "vocabulary": "vocabulary.txt",
    "tokenizer": "tokenizer.json",
    "samples": "samples.json",
}
_MAX_CARD: Final = 50_000


class PriceField(AmountField):
    """An amount of money that must be there; cleans to nanos."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.required = True


class DescriptionForm(forms.Form):
    """What the catalogue says of a model."""

    title = forms.CharField(label=gettext_lazy("Title"), max_length=80)
    summary = forms.CharField(label=gettext_lazy("Summary"), max_length=200, help_text=gettext_lazy("One sentence, for the catalogue."))
    task = forms.CharField(
        label=gettext_lazy("Task"), max_length=40, help_text=gettext_lazy("As model hubs name it: text-classification, tabular-regression.")
    )
    card_markdown = forms.CharField(
        label=gettext_lazy("Model card"),
        required=False,
        max_length=_MAX_CARD,
        widget=forms.Textarea(attrs={"rows": 6}),
        help_text=gettext_lazy("Markdown: what it is for and what not, its data, licence and accuracy."),
    )
    public = forms.BooleanField(label=gettext_lazy("Every organization may call it"), required=False)

    @classmethod
    def of(cls, model: CatalogueModel) -> "DescriptionForm":
        """Return the form filled with what is said now."""
        return cls(initial={name: getattr(model, name) for name in cls.base_fields})


class NameForm(forms.Form):
    """What a new model is called by."""

    name = forms.CharField(
        label=gettext_lazy("Name"),
        max_length=40,
        validators=[model_name],
        help_text=gettext_lazy("Lowercase letters, digits and single hyphens; it cannot be changed."),
    )


class VersionForm(forms.Form):
    """A version's files and its price."""

    model = forms.FileField(label="model.onnx", help_text=gettext_lazy("Plain ONNX, all weights inside, at most 200 MB."))
    samples = forms.FileField(
        label="samples.json",
        required=False,
        help_text=gettext_lazy("A list of inputs as a call would send them. Without it, no int8 model is made, and less can be examined."),
    )
    pipeline = forms.FileField(
        label="pipeline.json",
        required=False,
        help_text=gettext_lazy("For texts and images. Without it callers send the model’s tensors by name."),
    )
    vocabulary = forms.FileField(label="vocabulary.txt", required=False, help_text=gettext_lazy("With a text pipeline: one token a line."))
    tokenizer = forms.FileField(
        label="tokenizer.json", required=False, help_text=gettext_lazy("With a pipeline that names it: word pieces, as BERT has them.")
    )
    unit = forms.ChoiceField(label=gettext_lazy("What is charged"), choices=Price.Unit, initial=Price.Unit.ROW)
    unit_price = PriceField(label=in_currency(gettext_lazy("Price of one"), settings.CURRENCY), help_text=gettext_lazy("Such as 0.000001."))
    int8_tolerance = forms.FloatField(
        label=gettext_lazy("Tolerance of int8"),
        required=False,
        min_value=0,
        max_value=1,
        widget=forms.NumberInput(attrs={"step": "any"}),
        help_text=gettext_lazy(
            "How far a smaller, faster int8 model’s answers may be from the original’s, such as 0.02. Empty: none is made."
        ),
    )

    def version_files(self) -> dict[str, Iterable[bytes]]:
        """Return the files that were sent, by the names of a version's."""
        sent: dict[str, UploadedFile[Any] | None] = {part: self.cleaned_data[part] for part in _FILES}
        return {_FILES[part]: file.chunks() for part, file in sent.items() if file is not None}


class NewModelForm(NameForm, DescriptionForm, VersionForm):
    """A model with its first version."""

    field_order = ("name", "title", "summary", "task")


class ShareForm(forms.Form):
    """A share of the traffic."""

    share_percent = forms.IntegerField(
        label=gettext_lazy("Share of the calls that name no version, in percent"), min_value=0, max_value=100, initial=100
    )


class PriceForm(forms.Form):
    """A new price."""

    unit_price = PriceField(label=in_currency(gettext_lazy("New price"), settings.CURRENCY))
    effective_from = forms.DateTimeField(
        label=gettext_lazy("From"),
        required=False,
        widget=forms.DateTimeInput(attrs={"placeholder": "2027-01-01 00:00"}),
        help_text=gettext_lazy("UTC. Empty: now, which only a lower price may."),
    )

    def clean_effective_from(self) -> Any:
        """Return the time in UTC, or None."""
        moment = self.cleaned_data["effective_from"]
        return moment.astimezone(UTC) if moment else None


class RetireForm(forms.Form):
    """Why a version ends."""

    reason = forms.CharField(label=gettext_lazy("Reason"), max_length=200, required=False)
