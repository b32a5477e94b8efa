"""The promises' tests meet the same account and price as billing's, in a database that is empty again after each."""

from tests.billing.conftest import _emptied, account, price

__all__ = ["_emptied", "account", "price"]
