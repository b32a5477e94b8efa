"""Tests of `manage.py rerate`."""

from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from billing.models import Price

pytestmark = pytest.mark.django_db


def test_a_month_without_calls_comes_to_nothing_at_any_price() -> None:
    out = StringIO()

    call_command("rerate", "house/model@1", "2026-10", "--scheme", "graduated", "--tiers", "1000 0.002, * 0.001 5", stdout=out)

    assert out.getvalue() == "total: 0.000000000 would be 0.000000000 (+0.000000000)\n"
    assert not Price.objects.exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["October", "--price", "1"], "no month"), (["2026-10"], "price of a unit"), (["2026-10", "--price", "x"], "amount")],
)
def test_what_cannot_be_read_is_refused(arguments: list[str], said: str) -> None:
    with pytest.raises(CommandError, match=said):
        call_command("rerate", "house/model@1", *arguments)
