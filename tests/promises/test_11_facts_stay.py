"""Promise 11: usage events and ledger entries are append-only; an edit made behind our back is detected.

`marketplace/proving/facts_stay.py` makes the facts and knows the edits; here each has a test of its own.
"""

import pytest

from billing.models import Account, Price, UsageEvent
from marketplace.proving.facts_stay import EDITS, edit_shows, made_up_call_shows, make_facts, try_every_table, what_shows

pytestmark = pytest.mark.django_db


@pytest.fixture
def facts(account: Account, price: Price) -> list[UsageEvent]:
    """A closed month of calls with receipts, one of them refunded, and two calls of the month after it."""
    made = make_facts(account, price)
    assert what_shows() == []
    return made


def test_every_protected_table_refuses_changes_and_deletions_of_its_rows(facts: list[UsageEvent]) -> None:
    assert try_every_table() >= 10


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_behind_our_back_shows(facts: list[UsageEvent], edit: str) -> None:
    assert edit_shows(edit), f"An edit of {edit} went unnoticed."


def test_a_call_made_up_behind_our_back_shows(facts: list[UsageEvent]) -> None:
    assert made_up_call_shows(facts[0])
