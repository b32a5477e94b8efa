"""An invoice as a PDF, in English or Chinese, to send to an accountant."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from io import BytesIO
from itertools import groupby
from typing import Any, Final
from xml.sax.saxutils import escape

from django.utils.translation import gettext as _
from reportlab.lib import colors
from reportlab.lib.enums import TA_RIGHT
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.cidfonts import UnicodeCIDFont
from reportlab.platypus import Flowable, Paragraph, SimpleDocTemplate, Spacer, Table, TableStyle

_LATIN: Final = "Helvetica"
# A font that PDF readers bring themselves: shipping one with 20,000 Chinese characters would take 10 MB.
_CHINESE: Final = "STSong-Light"
_INK: Final = colors.HexColor("#1a1f36")
_MUTED: Final = colors.HexColor("#697386")
_RULE: Final = colors.HexColor("#e3e8ee")
_MARGIN: Final = 20 * mm
_PADDING: Final = 6  # Points that reportlab leaves inside of the margins.
# Of what, price, calls, units, charge, amount; in all the width between the margins of A4.
_COLUMNS: Final = (38 * mm, 34 * mm, 21 * mm, 31 * mm, 26 * mm, 20 * mm)


@dataclass(frozen=True, slots=True, kw_only=True)
class Printed:
    """What an invoice says, all of it in the words and figures that are to be printed."""

    title: str
    number: str
    period: str
    state: str
    seller: Sequence[str]  # Lines of an address.
    buyer: Sequence[str]
    currency: str
    lines: Sequence[Sequence[str]]  # What, price, calls, units, charge, amount.
    totals: Sequence[tuple[str, str, str]]  # Label, charge, amount.
    notes: Sequence[str]
    issued: str = ""  # The day; empty of one that is still open.
    total_at: int = 0  # Which of the totals is the total.
    made_at: datetime


def render_pdf(invoice: Printed) -> bytes:
    """Return the invoice as a PDF of A4 pages, each with its number."""
    _register_fonts()
    file = BytesIO()
    document = SimpleDocTemplate(
        file,
        pagesize=A4,
        leftMargin=_MARGIN,
        rightMargin=_MARGIN,
        topMargin=_MARGIN,
        bottomMargin=_MARGIN,
        title=f"{invoice.title} {invoice.number}".strip(),
        author=invoice.seller[0],
        lang=None,
    )
    footer = _footer(invoice)
    document.build([*_head(invoice), *_table(invoice), *_notes(invoice)], onFirstPage=footer, onLaterPages=footer)
    return file.getvalue()


@cache
def _register_fonts() -> None:
    pdfmetrics.registerFont(UnicodeCIDFont(_CHINESE))


def _head(invoice: Printed) -> list[Flowable]:
    facts = [
        (_("From"), invoice.seller),
        (_("For"), invoice.buyer),
        *([(_("Issued"), [invoice.issued])] if invoice.issued else []),
        (_("Period"), [invoice.period]),
        (_("Currency"), [invoice.currency]),
        (_("State"), [invoice.state]),
    ]
    rows = [[_text(label, color=_MUTED), [_text(line) for line in lines]] for label, lines in facts]
    grid = Table(rows, colWidths=[30 * mm, 140 * mm], hAlign="LEFT")
    grid.setStyle(
        TableStyle([("VALIGN", (0, 0), (-1, -1), "TOP"), ("LEFTPADDING", (0, 0), (0, -1), 0), ("TOPPADDING", (0, 0), (-1, -1), 1)])
    )
    return [_text(f"{invoice.title} {invoice.number}".strip(), size=18), Spacer(1, 5 * mm), grid, Spacer(1, 8 * mm)]


def _table(invoice: Printed) -> list[Flowable]:
    head = [_("What"), _("Price"), _("Calls"), _("Units"), _("Charge"), _("Amount")]
    rows: list[list[Any]] = [[_text(head[0], size=8, color=_MUTED), *(_text(word, size=8, color=_MUTED, right=True) for word in head[1:])]]
    rows += [[_text(line[0], size=8), *(_text(cell, size=8, right=True) for cell in line[1:])] for line in invoice.lines]
    for label, charge, amount in invoice.totals:
        rows.append([_text(label, size=8), "", "", "", _text(charge, size=8, right=True), _text(amount, size=8, right=True)])
    first = len(rows) - len(invoice.totals)
    table = Table(rows, colWidths=_COLUMNS, repeatRows=1, hAlign="LEFT")
    table.setStyle(
        TableStyle(
            [
                ("VALIGN", (0, 0), (-1, -1), "TOP"),
                ("LINEBELOW", (0, 0), (-1, -1), 0.5, _RULE),
                ("LINEABOVE", (0, first + invoice.total_at), (-1, first + invoice.total_at), 1, _INK),
                *(("SPAN", (0, row), (3, row)) for row in range(first, len(rows))),
                ("LEFTPADDING", (0, 0), (0, -1), 0),
                ("RIGHTPADDING", (-1, 0), (-1, -1), 0),
            ]
        )
    )
    return [table, Spacer(1, 6 * mm)]


def _notes(invoice: Printed) -> list[Flowable]:
    return [_text(note, color=_MUTED) for note in invoice.notes]


def _footer(invoice: Printed) -> Callable[[Any, SimpleDocTemplate], None]:
    made = f"{invoice.made_at:%Y-%m-%d %H:%M} UTC"

    def draw(canvas: Any, document: SimpleDocTemplate) -> None:
        canvas.saveState()
        canvas.setFillColor(_MUTED)
        canvas.setFont(_LATIN, 8)
        canvas.drawString(_MARGIN + _PADDING, 10 * mm, f"{invoice.number}  {made}".strip())
        canvas.drawRightString(A4[0] - _MARGIN - _PADDING, 10 * mm, str(document.page))
        canvas.restoreState()

    return draw


def _text(text: str, *, size: int = 9, color: colors.Color = _INK, right: bool = False) -> Paragraph:
    """Return a paragraph; the parts that Helvetica cannot write are in the Chinese font."""
    parts = []
    for is_latin, characters in groupby(text, key=_is_latin):
        part = escape("".join(characters))
        parts.append(part if is_latin else f'<font name="{_CHINESE}">{part}</font>')
    style = ParagraphStyle("text", fontName=_LATIN, fontSize=size, leading=size * 1.4, textColor=color)
    if right:
        style.alignment = TA_RIGHT
    style.splitLongWords = True  # "owner/a-very-long-name@3" has no space to break at.
    return Paragraph("".join(parts), style)


def _is_latin(character: str) -> bool:
    """Whether Helvetica has it: PDF's built-in fonts hold Windows code page 1252."""
    try:
        character.encode("cp1252")
    except UnicodeEncodeError:
        return False
    return True
