"""What billing's tests share: usage as a gateway reports it, settled with or without a running meter."""

import pytest
from django.db import connections

from billing.leases import BudgetSpec
from billing.models import Account
from marketplace.proving.acts import CREDIT_NANOS, Recorder, call, in_thread, until, usage_of, whole_account, with_meter
from marketplace.proving.faults import losing_commit

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
    monkeypatch.setattr(type(connections["default"]), "_commit", losing_commit(after_it_happened=after_it_happened))
