"""Set and look up prices. A price never changes: a new one takes effect at its time."""

from collections.abc import Sequence
from datetime import datetime

from django.db import IntegrityError, transaction
from django.utils import timezone

from billing.errors import PriceInvalid
from billing.models import Price
from billing.money import CURRENCY, MAX_AMOUNT
from billing.pricing import Terms


def set_price(*, sku: str, unit: str, unit_nanos: int, effective_from: datetime | None = None, currency: str = CURRENCY) -> Price:
    """Add a price that holds from a moment on, now by default; return it.

    Calls admitted before keep the price they were admitted at.

    Raises:
        PriceInvalid: the unit is unknown or not the SKU's, the price is negative or absurd, it would
            change the past, or another takes effect at that very moment. No price was changed.
    """
    now = timezone.now()
    if unit not in Price.Unit.values:
        message = f"The unit {unit!r} is none of {', '.join(Price.Unit.values)}."
        raise PriceInvalid(message)
    if not 0 <= unit_nanos <= MAX_AMOUNT:
        message = f"A price of {unit_nanos} nanos is out of range."
        raise PriceInvalid(message)
    if effective_from is not None and effective_from < now:
        message = "A price cannot take effect in the past."
        raise PriceInvalid(message)
    if Price.objects.filter(sku=sku).exclude(unit=unit).exists():
        # What a SKU counts is part of what it is: a caller's units must mean the same all month.
        message = f"{sku} is not sold by the {unit}."
        raise PriceInvalid(message)
    try:
        with transaction.atomic():
            return Price.objects.create(sku=sku, unit=unit, unit_nanos=unit_nanos, currency=currency, effective_from=effective_from or now)
    except IntegrityError:
        message = f"{sku} has a price that takes effect at that moment."
        raise PriceInvalid(message) from None


def price_history(sku: str, *, currency: str = CURRENCY) -> Sequence[tuple[datetime, Terms]]:
    """Return all prices of a SKU with the moments they take effect, past and to come, ascending."""
    prices = Price.objects.filter(sku=sku, currency=currency).order_by("effective_from")
    return [(price.effective_from, terms_of(price)) for price in prices]


def price_at(sku: str, at: datetime, *, currency: str = CURRENCY) -> Price | None:
    """Return the price of a SKU that holds at a moment, or None before its first."""
    return Price.objects.filter(sku=sku, currency=currency, effective_from__lte=at).order_by("-effective_from").first()


def terms_of(price: Price) -> Terms:
    """Return a price as a call keeps it."""
    return Terms(price_id=price.pk, sku=price.sku, unit=price.unit, unit_nanos=price.unit_nanos, currency=price.currency)
