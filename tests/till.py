"""The fake Stripe for tests; `marketplace/proving/till.py` is it."""

from marketplace.proving.till import HANG_S, SECRET, TIMEOUT_S, Till, open_till, wait_until

__all__ = ["HANG_S", "SECRET", "TIMEOUT_S", "Till", "open_till", "wait_until", "work"]


def work(till: Till) -> None:
    """Have everything done that waits, however often it must be tried, and told."""
    for _ in range(8):
        till.make_due()
        till.sweep()
    till.tell()
