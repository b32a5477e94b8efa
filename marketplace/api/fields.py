"""What the REST API takes: known fields alone, and JSON types at their word. Ids, money and times are read as objects show them."""

from collections.abc import Mapping
from typing import Any

from rest_framework import serializers

from marketplace.objects.fields import Amount, Cents, Constant, Moment, PublicId, View

__all__ = ["Amount", "Cents", "Constant", "Flag", "Form", "Moment", "PublicId", "Text", "View", "Whole"]


class Form(serializers.Serializer[Any]):
    """What an address takes. A field it does not know is refused: a misspelt one would be lost in silence."""

    def to_internal_value(self, data: Any) -> Any:
        """Return the checked fields.

        Raises:
            ValidationError: naming each field that is unknown, missing or wrong.
        """
        if isinstance(data, Mapping) and (unknown := sorted(data.keys() - self.fields.keys())):
            known = ", ".join(self.fields)
            detail = f"Unknown field; this address takes {known}." if known else "Unknown field; this address takes none."
            raise serializers.ValidationError({name[:40]: [detail] for name in unknown[:5]})
        return super().to_internal_value(data)


class Text(serializers.CharField):
    """A JSON string; a number is not one."""

    def to_internal_value(self, data: Any) -> str:
        """Return the text."""
        if not isinstance(data, str):
            self.fail("invalid")
        return str(super().to_internal_value(data))


class Whole(serializers.IntegerField):
    """A JSON integer; neither "5" nor 5.0 nor true is one."""

    def to_internal_value(self, data: Any) -> int:
        """Return the number."""
        if type(data) is not int:
            self.fail("invalid")
        return int(super().to_internal_value(data))


class Flag(serializers.BooleanField):
    """A JSON true or false; "yes" is neither."""

    def to_internal_value(self, data: Any) -> bool:
        """Return the flag."""
        if type(data) is not bool:
            self.fail("invalid", input=data)
        return data
