"""Set and look up prices. A price never changes: a new one takes effect at its time."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from django.db import IntegrityError, transaction
from django.utils import timezone

from billing.errors import PriceInvalid
from billing.models import Price
from billing.money import CURRENCIES, CURRENCY
from billing.pricing import Shape, Terms, dearest_unit, is_never_dearer
from billing.shapes import check_shape, parse_shape, render_shape

_NO_NOTICE = timedelta(0)


def set_price(
    *,
    sku: str,
    unit: str,
    unit_nanos: int | None = None,
    shape: Shape | None = None,
    meter: str = "",
    effective_from: datetime | None = None,
    currency: str = CURRENCY,
    notice: timedelta = _NO_NOTICE,
) -> Price:
    """Add a price that holds from a moment on, now by default; return it.

    Calls admitted before keep the price they were admitted at.

    Args:
        sku: What is sold.
        unit: What is counted; the same for all prices of the SKU.
        unit_nanos: The price of each unit, for a plain price.
        shape: Any other price.
        meter: What is counted together for tiers, such as all versions of a model; empty: the SKU alone.
        effective_from: The first moment that it holds, or None for now.
        currency: One of `CURRENCIES`; each has its own prices.
        notice: How long before it takes effect a price must be set that could be dearer than the one it follows.

    Raises:
        PriceInvalid: the unit is unknown or not the SKU's, the price or the currency cannot be, it would
            change the past, another takes effect at that very moment, or the notice is too short. No price was changed.
    """
    now = timezone.now()
    if (unit_nanos is None) == (shape is None):
        message = "A price has either unit_nanos or a shape."
        raise PriceInvalid(message)
    shape = check_shape(shape or Shape(unit_nanos=unit_nanos or 0))
    _check_sold_as(sku, unit, currency)
    if effective_from is not None and effective_from < now:
        message = "A price cannot take effect in the past."
        raise PriceInvalid(message)
    _check_notice(sku, currency, shape, since=effective_from or now, earliest=now + notice)
    is_plain = shape.is_plain and shape.cached_unit_nanos is None
    fields = {"unit_nanos": dearest_unit(shape), "shape": None if is_plain else render_shape(shape), "meter": meter}
    try:
        with transaction.atomic():
            return Price.objects.create(sku=sku, unit=unit, currency=currency, effective_from=effective_from or now, **fields)
    except IntegrityError:
        message = f"{sku} has a price that takes effect at that moment."
        raise PriceInvalid(message) from None


def price_history(sku: str, *, currency: str = CURRENCY) -> Sequence[tuple[datetime, Terms]]:
    """Return all prices of a SKU with the moments they take effect, past and to come, ascending."""
    prices = Price.objects.filter(sku=sku, currency=currency).order_by("effective_from")
    return [(price.effective_from, terms_of(price)) for price in prices]


def prices_by_currency(sku: str) -> dict[str, Sequence[tuple[datetime, Terms]]]:
    """Return `price_history` of each currency that the SKU has prices in."""
    found: dict[str, list[tuple[datetime, Terms]]] = {}
    for price in Price.objects.filter(sku=sku).order_by("effective_from"):
        found.setdefault(price.currency, []).append((price.effective_from, terms_of(price)))
    return dict(found)


def price_at(sku: str, at: datetime, *, currency: str = CURRENCY) -> Price | None:
    """Return the price of a SKU that holds at a moment, or None before its first."""
    return Price.objects.filter(sku=sku, currency=currency, effective_from__lte=at).order_by("-effective_from").first()


def terms_of(price: Price) -> Terms:
    """Return a price as a call keeps it."""
    return Terms(
        price_id=price.pk,
        sku=price.sku,
        unit=price.unit,
        unit_nanos=price.unit_nanos,
        currency=price.currency,
        shape=None if price.shape is None else parse_shape(price.shape),
        meter=price.meter,
    )


def shape_of_price(price: Price) -> Shape:
    """Return the shape of a stored price, a plain one's too."""
    return Shape(unit_nanos=price.unit_nanos) if price.shape is None else parse_shape(price.shape)


def _check_sold_as(sku: str, unit: str, currency: str) -> None:
    if unit not in Price.Unit.values:
        message = f"The unit {unit!r} is none of {', '.join(Price.Unit.values)}."
        raise PriceInvalid(message)
    if currency not in CURRENCIES:
        message = f"The currency {currency!r} is none of {', '.join(CURRENCIES)}."
        raise PriceInvalid(message)
    if Price.objects.filter(sku=sku).exclude(unit=unit).exists():
        # What a SKU counts is part of what it is: a caller's units must mean the same all month.
        message = f"{sku} is not sold by the {unit}."
        raise PriceInvalid(message)


def _check_notice(sku: str, currency: str, shape: Shape, *, since: datetime, earliest: datetime) -> None:
    """Refuse a price that comes too soon, unless no month could come to more by it."""
    if since >= earliest:
        return
    before = price_at(sku, since, currency=currency)
    if before is not None and not is_never_dearer(shape, shape_of_price(before)):
        message = f"A price that can be dearer needs notice: this one may take effect from {earliest:%Y-%m-%d %H:%M} UTC on."
        raise PriceInvalid(message)
