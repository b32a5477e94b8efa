"""Template tags and filters of every page: icons, and how money, times and amounts are written."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from django import template
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe

from billing.ids import public_id
from billing.models import Price
from billing.money import NANOS_PER_CENT, render_cents, render_percent
from billing.prices import terms_of
from billing.pricing import Terms
from marketplace import amounts

register = template.Library()

# Drawn on a 24 x 24 grid with a 2 wide stroke.
_ICONS: Final = {
    "arrow": "M5 12h14M13 6l6 6-6 6",
    "check": "M4 12.5l5 5L20 6.5",
    "chevron": "M6 9l6 6 6-6",
    "copy": "M9 9h11v11H9zM5 15H4V4h11v1",
    "down": "M12 4v12M6 11l6 6 6-6M4 20h16",
    "mail": "M3 6h18v12H3zM3 7l9 7 9-7",
    "play": "M7 4.5v15l12-7.5z",
    "plus": "M12 5v14M5 12h14",
    "printer": "M7 9V4h10v5M7 17H4v-7h16v7h-3M7 14h10v6H7z",
}


@register.simple_tag
def icon(name: str) -> SafeString:
    """Return an icon that says nothing to a screen reader: the text beside it does."""
    return format_html(
        '<svg class="icon" viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="2" stroke-linecap="round"'
        ' stroke-linejoin="round" aria-hidden="true" focusable="false"><path d="{}"/></svg>',
        _ICONS[name],
    )


money = register.filter("money", amounts.money)
units_of = register.filter("units_of", amounts.units_of)


@register.filter
def price_words(price: Price | Terms) -> str:
    """Return a price of any shape in one line."""
    return amounts.price_words(terms_of(price) if isinstance(price, Price) else price)


@register.filter
def price_rows(price: Price) -> Sequence[amounts.TierRow]:
    """Return a price's tiers, as a table's lines."""
    return amounts.price_rows(terms_of(price))


@register.filter
def price_notes(price: Price) -> Sequence[str]:
    """Return what else there is to know of a price, a sentence each."""
    return amounts.price_notes(terms_of(price))


@register.filter
def money_short(nanos: int) -> str:
    """Return an amount with four decimals, rounded down, for where every digit has no room: a balance never looks larger than it is."""
    step = 100_000
    return money(nanos // step * step)


@register.filter
def money_brief(nanos: int) -> str:
    """Return an amount for a headline: four decimals, rounded down, or every digit of one below a cent."""
    return money_short(nanos) if abs(nanos) >= NANOS_PER_CENT else money(nanos)


@register.filter
def cents(amount: int) -> str:
    """Return whole cents as "$12.50"."""
    return money(amount * NANOS_PER_CENT)


@register.filter
def plain_cents(amount: int) -> str:
    """Return whole cents as a form takes them: "12.50"."""
    return render_cents(amount)


@register.filter
def number(value: int | None) -> str:
    """Return a whole number with thousands set apart."""
    return "–" if value is None else f"{value:,}"


@register.filter
def duration(microseconds: float | None) -> str:
    """Return a duration of microseconds in the unit that fits: "4.2 ms"."""
    if microseconds is None:
        return "–"
    if microseconds < 1000:
        return f"{microseconds:.0f} µs"
    if microseconds < 100_000:
        return f"{microseconds / 1000:.1f} ms"
    if microseconds < 1_000_000:
        return f"{microseconds / 1000:.0f} ms"
    return f"{microseconds / 1_000_000:.2f} s"


@register.filter
def utc(moment: datetime | None, form: str = "second") -> str:
    """Return a moment in UTC as a `time` element. Bills count in UTC, so pages do as well."""
    if moment is None:
        return "–"
    moment = timezone.localtime(moment, timezone.get_default_timezone())
    shapes = {"second": "%Y-%m-%d %H:%M:%S", "minute": "%Y-%m-%d %H:%M", "day": "%Y-%m-%d", "clock": "%H:%M:%S"}
    return format_html(
        '<time datetime="{}" title="{} UTC" class="num nowrap">{}</time>',
        moment.isoformat(),
        moment.strftime("%Y-%m-%d %H:%M:%S"),
        moment.strftime(shapes[form]),
    )


@register.filter
def size(size_bytes: int) -> str:
    """Return a size of bytes in megabytes or kilobytes."""
    return f"{size_bytes / 1_000_000:.1f} MB" if size_bytes >= 1_000_000 else f"{size_bytes / 1000:.0f} kB"


@register.filter
def request_id(value: UUID) -> str:
    """Return a request's id as its caller knows it."""
    return public_id("req", value)


@register.filter
def key_id(value: UUID) -> str:
    """Return a key's id as it stands in URLs."""
    return public_id("key", value)


@register.filter
def public(value: UUID, prefix: str) -> str:
    """Return any other id as it stands in URLs: `prd`, `bat`, `whe` or `whd` before it."""
    return public_id(prefix, value)


@register.filter
def status_badge(status: int) -> SafeString:
    """Return an HTTP status as a badge."""
    kind = "good" if status < 300 else "warn" if status < 500 else "bad"
    return format_html('<span class="badge badge--{}">{}</span>', kind, status)


@register.filter
def backticks(text: str) -> SafeString:
    """Return escaped text in which `backticks` have become code."""
    parts = [format_html("<code>{}</code>", part) if index % 2 else format_html("{}", part) for index, part in enumerate(text.split("`"))]
    return mark_safe("".join(parts))  # noqa: S308 (each part was escaped above)


@register.filter
def percent(share: float) -> str:
    """Return a share of one in percent, with one decimal."""
    return f"{share * 100:.1f} %"


@register.filter
def basis_points(points: int) -> str:
    """Return hundredths of a percent in percent: 1,500 are "15 %"."""
    return f"{render_percent(points)} %"
