"""Promise 12: what is accepted is delivered, once in effect, whatever the broker does.

The scenes are `marketplace/proving/delivered.py`.
"""

from collections.abc import Callable, Iterator

import pytest

from billing.models import Account
from marketplace.models import Organization
from marketplace.proving import delivered
from marketplace.proving.receiver import Receiver
from tests.till import Till

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _broker_is_down() -> Iterator[None]:
    with delivered.broker_down():
        yield


def test_a_row_delivered_by_many_workers_at_once_asks_once(till: Till) -> None:
    delivered.many_workers(till)


def test_without_any_broker_the_sweep_delivers_all_even_after_lost_answers(till: Till, account: Account) -> None:
    delivered.lost_answers(till, account)


def test_what_was_rolled_back_is_never_sent(till: Till, account: Account) -> None:
    delivered.rolled_back(till, account)


@pytest.mark.parametrize("scene", [delivered.webhooks_at_once, delivered.a_receiver_that_was_down])
def test_webhooks_arrive(organization: Organization, scene: Callable[[Organization, Receiver], None]) -> None:
    with delivered.listening() as told:
        scene(organization, told)
