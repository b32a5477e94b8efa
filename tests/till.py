"""The fake Stripe for tests; `marketplace/proving/till.py` is it."""

from marketplace.proving.till import SECRET, TIMEOUT_S, Till, open_till, wait_until

__all__ = ["SECRET", "TIMEOUT_S", "Till", "open_till", "wait_until"]
