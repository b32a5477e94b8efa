"""What objects are shown with: public ids, exact money, UTC times."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from drf_spectacular.drainage import set_override
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from billing.errors import AmountMalformed
from billing.ids import parse_public_id, public_id
from billing.money import parse_amount, render_cents, to_decimal_string
from billing.periods import render_moment


class View(serializers.Serializer[Any]):
    """What an address shows; `KeyView` goes by the name of `Key` in the documentation."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        set_override(cls, "component_name", cls.__name__.removesuffix("View"))


@extend_schema_field({"type": "string", "pattern": r"^-?[0-9]{1,10}(\.[0-9]{1,9})?$", "example": "12.50"})
class Amount(serializers.Field[int, str, str, int]):
    """Money: nanos inside, an exact decimal string outside."""

    def to_internal_value(self, data: Any) -> int:
        """Return the amount in nanos; a JSON number is refused, for it may have been rounded."""
        if not isinstance(data, str):
            message = 'Send the amount as a string, such as "12.50".'
            raise serializers.ValidationError(message)
        try:
            return parse_amount(data)
        except AmountMalformed:
            message = "This is no amount: send a plain decimal of at most nine decimals."
            raise serializers.ValidationError(message) from None

    def to_representation(self, value: int) -> str:
        """Return nanos as currency units with nine decimals."""
        return to_decimal_string(value)


@extend_schema_field({"type": "string", "example": "0.02"})
class Cents(serializers.Field[int, str, str, int]):
    """A billed amount: whole cents inside, a decimal string outside. Only shown."""

    def to_representation(self, value: int) -> str:
        """Return cents as currency units with two decimals."""
        return render_cents(value)


@extend_schema_field({"type": "string", "format": "date-time", "example": "2026-11-22T18:00:00Z"})
class Moment(serializers.DateTimeField):
    """A time: RFC 3339 with its offset; shown in UTC."""

    def to_internal_value(self, value: Any) -> datetime:
        """Return the aware time; one without an offset is refused, for it could mean two moments."""
        if not isinstance(value, str) or len(value) > 40:
            self.fail("invalid", format="RFC 3339")
        try:
            parsed = datetime.fromisoformat(value.replace(" ", "+"))  # A bare "+" in a URL arrives as a space.
        except ValueError:
            parsed = None
        if parsed is None or parsed.tzinfo is None:
            message = "Send a time in RFC 3339 with its offset, such as 2026-11-22T18:00:00Z."
            raise serializers.ValidationError(message)
        return parsed.astimezone(UTC)

    def to_representation(self, value: datetime) -> str:
        """Return the time in UTC, to the microsecond where it has any."""
        return render_moment(value)


@extend_schema_field({"type": "string", "pattern": "^[a-z]+_[0-9A-Za-z]{22}$", "example": "req_00Q1nRM7Xq0S0bXJvE4cKd"})
class PublicId(serializers.Field[UUID, str, str, UUID]):
    """An id as the outside sees it: `key_` and base62."""

    def __init__(self, prefix: str, **kwargs: Any) -> None:
        self.prefix = prefix
        super().__init__(**kwargs)

    def to_internal_value(self, data: Any) -> UUID:
        """Return the UUID.

        Raises:
            ValidationError: it has another form.
        """
        value = parse_public_id(self.prefix, data) if isinstance(data, str) else None
        if value is None:
            message = f"This is not an id of the form {self.prefix}_..."
            raise serializers.ValidationError(message)
        return value

    def to_representation(self, value: UUID) -> str:
        """Return the public id."""
        return public_id(self.prefix, value)


class Constant(serializers.CharField):
    """A field that always says the same: what kind of object this is."""

    def __init__(self, value: str) -> None:
        self.value = value
        super().__init__(read_only=True, source="*")

    def to_representation(self, value: Any) -> str:  # noqa: ARG002 (DRF's signature)
        """Return the constant."""
        return self.value
