"""Promise 4: the same Idempotency-Key and body get the same bytes and one charge; another body 422; still running 409.

The scenes are `marketplace/proving/same_key.py`; `tests/flows/test_money.py` holds it over HTTP.
"""

from collections.abc import Callable

import pytest

from billing.ledger import grant_credit
from billing.models import Price
from billing.money import Nanos
from marketplace.models import Organization
from marketplace.proving import same_key

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def rich(organization: Organization) -> Organization:
    """An organization with 10 dollars."""
    grant_credit(organization.account, Nanos(10**10), kind="operator", reference="promise 4", by="test")
    return organization


@pytest.mark.parametrize(
    "scene",
    [same_key.many_at_once, same_key.two_processes, same_key.another_body, same_key.while_the_first_runs, same_key.a_process_that_died],
)
def test_a_key_is_charged_once(rich: Organization, price: Price, scene: Callable[[Organization, Price], None]) -> None:
    scene(rich, price)

    same_key.check_charges(rich)


@pytest.mark.parametrize("after_it_happened", [False, True])
def test_a_lost_commit_charges_at_most_once_and_a_repeat_is_answered(rich: Organization, price: Price, *, after_it_happened: bool) -> None:
    same_key.a_lost_commit(rich, price, after_it_happened=after_it_happened)

    same_key.check_charges(rich)
