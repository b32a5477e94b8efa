"""What a kind of outbox row is made of; `sending.py` has the kinds and delivers them."""

from abc import ABC, abstractmethod
from typing import Generic, TypeVar

from billing.errors import ProviderRefused
from billing.models import OutboxRow

S = TypeVar("S")


class Step(ABC, Generic[S]):
    """What one kind of row asks, and what comes of it. `ask` and `look` run outside of transactions, the others inside."""

    @abstractmethod
    def ask(self, row: OutboxRow) -> S:
        """Ask the provider."""

    @abstractmethod
    def look(self, row: OutboxRow) -> S | None:
        """Return what was asked before and did happen, if so."""

    @abstractmethod
    def apply(self, row: OutboxRow, state: S) -> None:
        """Do what an answer says.

        Raises:
            ProviderUnavailable: it is the answer to what does not hold any more. It is asked again.
        """

    def refuse(self, row: OutboxRow, error: ProviderRefused) -> None:
        """Undo what rested on an answer that will not come."""
