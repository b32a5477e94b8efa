"""Which grant of credit pays for what: an account's grants, what was taken from them, and what is left of each. Pure.

Source: the order is that of Stripe's billing credits: priority, then the soonest expiry, then the oldest grant.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias

# As Stripe's credit grants have it: 0 is used first, 100 last.
DEFAULT_PRIORITY: Final = 50
_NEVER: Final = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Granted:
    """Credit that came in."""

    id: Hashable
    amount_nanos: int  # More than 0.
    at_spent: int  # What the account had spent by then: earlier calls were not paid out of it.
    granted_at: datetime
    expires_at: datetime | None = None
    priority: int = DEFAULT_PRIORITY
    is_paid: bool = False  # A payment that is given back takes its credit from those first.

    @property
    def order(self) -> tuple[Any, ...]:
        """What sorts grants by when they are used."""
        return (self.priority, self.expires_at or _NEVER, self.granted_at, str(self.id))


@dataclass(frozen=True, slots=True, kw_only=True)
class Expired:
    """What was unspent of a grant when it had expired, and left the account."""

    id: Hashable
    amount_nanos: int
    at_spent: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reversed:
    """Credit that left with the payment that had bought it."""

    amount_nanos: int


Event: TypeAlias = Granted | Expired | Reversed


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """What is left of each grant. The left less the owed is what the account has."""

    left: dict[Hashable, int]
    owed: int  # Spent or taken beyond all credit: on a credit line, or after a payment was given back.


def split_spending(events: Sequence[Event], spent: int) -> Split:
    """Return what is left of each grant after so much was spent.

    Args:
        events: All that happened to an account's credit, in order.
        spent: What the account has spent, less refunds; or that and what is held.

    Returns:
        Never less than 0 of any. What refunds gave back is in the grants that were used last.
    """
    purse = _Purse()
    for event in events:
        if isinstance(event, Reversed):
            purse.take_payment(event.amount_nanos)
            continue
        purse.go_to(event.at_spent)
        if isinstance(event, Granted):
            purse.add(event)
        else:
            purse.drop(event.id, event.amount_nanos)
    purse.go_to(spent)
    return Split(left=purse.left, owed=purse.owed)


class _Purse:
    """Grants in the order of their use. What they were used for, plus what is owed, never falls below what was spent."""

    def __init__(self) -> None:
        self.left: dict[Hashable, int] = {}
        self.owed = 0
        self._used: dict[Hashable, int] = {}
        self._grants: list[Granted] = []
        self._spent = 0

    def go_to(self, spent: int) -> None:
        """Spend, or have refunded, what lies between."""
        if spent > self._spent:
            self._use(spent - self._spent, [grant.id for grant in self._grants])
        else:
            self._give_back(self._spent - spent)
        self._spent = spent

    def add(self, grant: Granted) -> None:
        """Take a grant in. What is owed is paid out of it first."""
        paid = min(self.owed, grant.amount_nanos)
        self.owed -= paid
        self.left[grant.id], self._used[grant.id] = grant.amount_nanos - paid, paid
        self._grants.append(grant)
        self._grants.sort(key=lambda other: other.order)

    def drop(self, name: Hashable, amount: int) -> None:
        """Lose what has expired."""
        dropped = min(amount, self.left.get(name, 0))
        if dropped:
            self.left[name] -= dropped
        self.owed += amount - dropped

    def take_payment(self, amount: int) -> None:
        """Give up credit for a payment that was given back: paid credit first, and what would be used last."""
        last_first = self._grants[::-1]
        for grant in [*(one for one in last_first if one.is_paid), *(one for one in last_first if not one.is_paid)]:
            taken = min(amount, self.left[grant.id])
            self.left[grant.id] -= taken
            amount -= taken
        self.owed += amount

    def _use(self, amount: int, order: Sequence[Hashable]) -> None:
        for name in order:
            used = min(amount, self.left[name])
            self.left[name] -= used
            self._used[name] += used
            amount -= used
        self.owed += amount

    def _give_back(self, amount: int) -> None:
        paid = min(amount, self.owed)
        self.owed -= paid
        amount -= paid
        for grant in reversed(self._grants):
            back = min(amount, self._used[grant.id])
            self.left[grant.id] += back
            self._used[grant.id] -= back
            amount -= back
