"""How the fake's pages write amounts, tables and buttons."""

from collections.abc import Iterable


def money(cents: int, currency: str) -> str:
    """Return an amount such as "1,250.00 USD"."""
    sign = "-" if cents < 0 else ""
    return f"{sign}{abs(cents) // 100:,}.{abs(cents) % 100:02d} {currency.upper()}"


def table(rows: str) -> str:
    """Return rows as a table that may be scrolled; nothing where there are none."""
    return f'<div class="scroll" tabindex="0"><table><tbody>{rows}</tbody></table></div>' if rows else ""


def button(name: str, value: str, label: str) -> str:
    """Return a cell with a small button that sends one field."""
    return f'<td><form method="post"><button class="small" name="{name}" value="{value}">{label}</button></form></td>'


def buttons(value: str, labels: Iterable[tuple[str, str]]) -> str:
    """Return a cell for each (name, label), all of one object."""
    return "".join(button(name, value, label) for name, label in labels)


def choice(value: str, label: str, note: str, kind: str = "") -> str:
    """Return a button that chooses one of several ways, with a note below its label."""
    return f'<button class="{kind}" name="choice" value="{value}">{label}<br><span class="muted">{note}</span></button>'
