"""Promise 2: no budget is overshot, and none is left unused, however many callers and processes ask at once.

`marketplace/proving/caps.py` plays the rounds: each has a budget that is worth 100 calls, and 64 callers who
call until they are refused, in one process, and in four that share the database.
"""

import pytest

from billing.models import Account, Price
from marketplace.proving.caps import Round, check_rounds, play, play_in_processes

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow, pytest.mark.timeout(600)]

ROUNDS = 200


@pytest.mark.parametrize("processes", [1, 4])
def test_64_callers_at_once_are_served_exactly_what_the_cap_is_worth(account: Account, price: Price, processes: int) -> None:
    rounds = [Round(number, account) for number in range(ROUNDS)]

    served = play(rounds, price) if processes == 1 else play_in_processes(rounds, price, processes=processes)

    check_rounds(rounds, served)
