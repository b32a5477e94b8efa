"""Model cards: a provider's Markdown as safe HTML."""

import re
from collections.abc import Mapping, Sequence
from typing import Final

from django.utils.safestring import SafeString, mark_safe
from markdown_it import MarkdownIt
from markdown_it.token import Token

# Raw HTML stays text, and markdown-it itself refuses javascript:, vbscript:, file: and data: links.
_markdown: Final = MarkdownIt("commonmark", {"html": False}).enable("table")
_LOWEST: Final = 4


def render_card(markdown: str, *, picture_url: Mapping[str, str]) -> SafeString:
    """Return a card as HTML to stand under the page's own h1.

    Args:
        markdown: What the provider wrote; not trusted.
        picture_url: Where the pictures of the version are, by file name. Any other picture is
            replaced by its description: a page of ours asks no other host for anything.
    """
    tokens = _markdown.parse(_without_title(markdown))
    for index, token in enumerate(tokens):
        if token.type == "th_open" and not tokens[index + 1].content:
            token.tag = tokens[index + 2].tag = "td"  # A header without a text heads nothing.
        if token.type in {"heading_open", "heading_close"}:
            token.tag = f"h{min(int(token.tag[1]) + (1 if token.tag == 'h1' else 0), _LOWEST)}"
        if token.type in {"th_open", "td_open"}:
            token.attrs = {}  # A column's alignment comes as a style attribute, which our policy refuses.
        if token.type == "inline":
            token.children = _own_pictures(token.children or [], picture_url)
    # Every part was escaped by the renderer, which was told to pass no HTML through.
    html = _markdown.renderer.render(tokens, _markdown.options, {})
    html = re.sub(
        r"<table>.*?</table>", r'<div class="table-scroll" tabindex="0" role="region" aria-label="Table">\g<0></div>', html, flags=re.DOTALL
    )
    return mark_safe(html)  # noqa: S308 (see above)


def _without_title(markdown: str) -> str:
    """The page has the title already."""
    return re.sub(r"\A\s*# [^\n]*\n", "", markdown)


def _own_pictures(children: Sequence[Token], picture_url: Mapping[str, str]) -> list[Token]:
    kept = []
    for child in children:
        if child.type == "image":
            url = picture_url.get(str(child.attrs.get("src", "")))
            if url is None:
                child = Token("text", "", 0, content=child.content)  # noqa: PLW2901 (the token is replaced)
            else:
                child.attrs = {"src": url, "alt": child.content, "loading": "lazy"}
        elif child.type == "link_open":
            child.attrSet("rel", "nofollow noopener")
        kept.append(child)
    return kept
