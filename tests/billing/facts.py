"""What billing's tests share: usage as a gateway reports it, settled with or without a running meter."""

import threading
from typing import Any

import pytest
from django.db import OperationalError, connections

from billing.leases import BudgetSpec
from billing.models import Account
from marketplace.proving.acts import CREDIT_NANOS, Recorder, call, in_thread, until, usage_of, whole_account, with_meter

__all__ = [
    "CREDIT_NANOS",
    "Recorder",
    "call",
    "in_thread",
    "lose_next_commit",
    "monthly_cap",
    "until",
    "usage_of",
    "whole_account",
    "with_meter",
]


def monthly_cap(account: Account, limit_nanos: int, *, subject: str = "key:1") -> BudgetSpec:
    """A key's cap, likewise."""
    return BudgetSpec(account_id=account.pk, subject=subject, interval="month", limit_nanos=limit_nanos)


def lose_next_commit(monkeypatch: pytest.MonkeyPatch, *, after_it_happened: bool) -> None:
    """Have the commit thread's next COMMIT fail as if the connection had broken, before or after it took effect."""
    wrapper: Any = type(connections["default"])
    original = wrapper._commit
    lost: list[bool] = []

    def commit(self: Any) -> None:
        if threading.current_thread().name != "commit" or lost:
            original(self)
            return
        lost.append(True)
        if after_it_happened:
            original(self)
        else:
            self.connection.rollback()
        message = "server closed the connection unexpectedly"
        raise OperationalError(message)

    monkeypatch.setattr(wrapper, "_commit", commit)
