"""How money and prices are written for people, on the site's pages and on the operator's."""

from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any, Final, NamedTuple

from django.utils.functional import lazy
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from billing.money import CURRENCY, to_decimal_string
from billing.pricing import Shape, Terms, Tier, shape_of

SYMBOLS: Final = {"usd": "$", "eur": "€", "cny": "¥"}
_BYTES_SHOWN: Final = 1_000_000  # Data is priced by the megabyte, tokens by the million.

# What amounts of the page now being written are in: the account's currency. Set by `use_currency`.
_currency: ContextVar[str] = ContextVar("currency", default=CURRENCY)


def use_currency(currency: str) -> None:
    """Write amounts that say no currency of their own in this one, for the rest of the request. As Django's `activate` for languages."""
    _currency.set(currency)


def money(nanos: int | None, currency: str | None = None) -> str:
    """Return an amount of nanos with every digit it has, and at least cents: "$0.0000046"."""
    if nanos is None:
        return "–"
    text = to_decimal_string(abs(nanos), places=2)
    return f"{'-' if nanos < 0 else ''}{SYMBOLS[currency or _currency.get()]}{text}"


def in_currency(label: Any, currency: str | None = None) -> Any:
    """Return a field's label with the currency that it is in, of the page where none is given: "Monthly cap, in USD". Lazy."""
    return _named(label, currency)


def _name(label: Any, currency: str | None) -> str:
    return _("%(label)s, in %(currency)s") % {"label": label, "currency": (currency or _currency.get()).upper()}


_named = lazy(_name, str)


def units_of(units: int, unit: str) -> str:
    """Return an amount of units in words: "23 tokens"."""
    if unit == "token":
        return ngettext("%(n)s token", "%(n)s tokens", units) % {"n": f"{units:,}"}
    if unit == "row":
        return ngettext("%(n)s row", "%(n)s rows", units) % {"n": f"{units:,}"}
    if unit == "byte":
        return ngettext("%(n)s byte", "%(n)s bytes", units) % {"n": f"{units:,}"}
    if unit == "month":
        return ngettext("%(n)s month", "%(n)s months", units) % {"n": f"{units:,}"}
    return ngettext("%(n)s call", "%(n)s calls", units) % {"n": f"{units:,}"}


def unit_price(unit_nanos: int, unit: str, currency: str | None = None) -> str:
    """Return the price of a unit as people compare it: tokens by the million, bytes by the megabyte, the rest by the piece."""
    if unit == "token":
        return _("%(price)s per million tokens") % {"price": money(unit_nanos * 1_000_000, currency)}
    if unit == "byte":
        return _("%(price)s per MB") % {"price": money(unit_nanos * _BYTES_SHOWN, currency)}
    if unit == "row":
        return _("%(price)s per row") % {"price": money(unit_nanos, currency)}
    if unit == "month":
        return _("%(price)s a month") % {"price": money(unit_nanos, currency)}
    return _("%(price)s per call") % {"price": money(unit_nanos, currency)}


def price_words(terms: Terms) -> str:
    """Return a price of any shape in one line; `price_rows` and `price_notes` tell the rest."""
    shape = shape_of(terms)
    if shape.scheme == "flat":
        return unit_price(shape.unit_nanos, terms.unit, terms.currency)
    if shape.scheme == "package":
        facts = {"price": money(shape.unit_nanos, terms.currency), "units": units_of(shape.package_units, terms.unit)}
        return _("%(price)s per %(units)s") % facts
    first, last = shape.tiers[0], shape.tiers[-1]
    cost = unit_price(last.unit_nanos, terms.unit, terms.currency)
    if first.up_to is not None and first.flat_nanos and not first.unit_nanos:
        facts = {"fee": money(first.flat_nanos, terms.currency), "units": units_of(first.up_to, terms.unit), "price": cost}
        return _("%(fee)s a month with %(units)s, then %(price)s") % facts
    if first.unit_nanos == last.unit_nanos:
        return cost
    return _("%(first)s at first, %(last)s with more use") % {
        "first": unit_price(first.unit_nanos, terms.unit, terms.currency),
        "last": cost,
    }


class TierRow(NamedTuple):
    """One line of a price's table."""

    units: str  # "1,001 – 5,000"
    price: str
    fee: str  # Empty where the tier has none.


def price_rows(terms: Terms) -> Sequence[TierRow]:
    """Return a price's tiers as a table's lines; none where it has no tiers."""
    shape = shape_of(terms)
    rows, start = [], 1
    for tier in shape.tiers:
        rows.append(TierRow(_range(start, tier), unit_price(tier.unit_nanos, terms.unit, terms.currency), _fee(tier, terms.currency)))
        start = (tier.up_to or 0) + 1
    return rows


def price_notes(terms: Terms) -> Sequence[str]:
    """Return what else there is to know of a price, a sentence each."""
    shape, notes = shape_of(terms), []
    if shape.scheme == "graduated":
        notes.append(_("Each unit costs what the tier says that it falls in. Tiers begin anew each month."))
    if shape.scheme == "volume":
        notes.append(
            _(
                "All units of a month cost what the tier says that the month reaches. What was charged above that is given back as credit when the month closes."
            )
        )
    if shape.scheme == "package":
        notes.append(_("A package is charged when it is begun, and used up by the month's later calls."))
    return [*notes, *_extras(shape, terms)]


def _extras(shape: Shape, terms: Terms) -> list[str]:
    notes = []
    if shape.free_units:
        notes.append(_("The first %(units)s of each month are free.") % {"units": units_of(shape.free_units, terms.unit)})
    if shape.trial_units:
        notes.append(_("To try it, the first %(units)s that you ever use are free.") % {"units": units_of(shape.trial_units, terms.unit)})
    if shape.minimum_nanos:
        notes.append(_("A month in which you use it costs at least %(price)s.") % {"price": money(shape.minimum_nanos, terms.currency)})
    if shape.cached_unit_nanos is not None:
        price = unit_price(shape.cached_unit_nanos, terms.unit, terms.currency)
        notes.append(_("Answers from the cache cost %(price)s.") % {"price": price})
    return notes


def _range(start: int, tier: Tier) -> str:
    return _("%(n)s and more") % {"n": f"{start:,}"} if tier.up_to is None else f"{start:,} – {tier.up_to:,}"


def _fee(tier: Tier, currency: str) -> str:
    return money(tier.flat_nanos, currency) if tier.flat_nanos else ""
