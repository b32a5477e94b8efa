"""How money and prices are written for people, on the site's pages and on the operator's."""

from django.utils.translation import gettext as _

from billing.money import to_decimal_string


def money(nanos: int | None) -> str:
    """Return an amount of nanos with every digit it has, and at least cents: "$0.0000046"."""
    if nanos is None:
        return "–"
    text = to_decimal_string(nanos, places=2)
    return f"-${text[1:]}" if text.startswith("-") else f"${text}"


def unit_price(unit_nanos: int, unit: str) -> str:
    """Return a price as people compare it: tokens by the million, the rest by the piece."""
    if unit == "token":
        return _("%(price)s per million tokens") % {"price": money(unit_nanos * 1_000_000)}
    if unit == "row":
        return _("%(price)s per row") % {"price": money(unit_nanos)}
    return _("%(price)s per call") % {"price": money(unit_nanos)}
