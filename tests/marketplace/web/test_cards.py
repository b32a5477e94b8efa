import pytest

from marketplace.web.cards import render_card


def test_a_card_keeps_headings_tables_and_links() -> None:
    html = render_card("# Title\n\n## Part\n\n| a | b |\n|---|--:|\n| 1 | 2 |\n\n[paper](https://example.com)", picture_url={})

    assert "Title" not in html
    assert "<h2>Part</h2>" in html
    assert "<td>2</td>" in html
    assert 'href="https://example.com"' in html
    assert "style=" not in html


@pytest.mark.parametrize(
    "hostile",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "[x](javascript:alert(1))",
        "[x](data:text/html,<script>alert(1)</script>)",
        "![x](https://tracker.example/pixel.png)",
        '<a href="x" onclick="alert(1)">x</a>',
    ],
)
def test_a_card_cannot_run_or_load_anything(hostile: str) -> None:
    html = render_card(hostile, picture_url={})

    assert "<script" not in html
    assert "<img" not in html
    assert "<a " not in html


def test_a_card_shows_the_versions_own_picture() -> None:
    html = render_card("![Loss](learning-curve.svg)", picture_url={"learning-curve.svg": "/p.svg"})

    assert '<img src="/p.svg" alt="Loss"' in html
