"""Everything billing refuses, named for what happened. Unless it says otherwise, nothing changed."""

from datetime import datetime
from typing import ClassVar
from uuid import UUID


class BillingError(Exception):
    """Base of billing's refusals. `code` is stable; the facts are attributes."""

    code: ClassVar[str]


class AmountMalformed(BillingError):
    """The text is no amount of money: a plain decimal, not negative, of at most nine decimals."""

    code = "amount_malformed"

    def __init__(self, *, text: str) -> None:
        super().__init__(f"{text!r} is not an amount of money.")
        self.text = text


class PriceInvalid(BillingError):
    """The price cannot be set. No price was changed."""

    code = "price_invalid"


class BudgetExceeded(BillingError):
    """The call could cost more than the budget has left. Nothing was held on any budget."""

    code = "budget_exceeded"

    def __init__(
        self,
        *,
        subject: str,
        limit_nanos: int,
        spent_nanos: int,
        left_nanos: int,
        asked_nanos: int,
        resets_at: datetime | None,
    ) -> None:
        super().__init__(f"The call asks {asked_nanos} nanos of budget {subject!r}, which has {left_nanos} left.")
        self.subject = subject
        self.limit_nanos = limit_nanos
        self.spent_nanos = spent_nanos  # Settled; what other calls hold is in neither `spent` nor `left`.
        self.left_nanos = left_nanos
        self.asked_nanos = asked_nanos
        self.resets_at = resets_at  # None: only more credit helps.


class StorageUnavailable(BillingError):
    """The database cannot be written now: locked, full or away. Nothing was charged."""

    code = "storage_unavailable"
    retry_after_s: ClassVar[float] = 2.0


class ProcessFenced(StorageUnavailable):
    """This process was taken for dead and its leases were given back, so it may not charge for the call."""


class CommitInDoubt(StorageUnavailable):
    """Whether the write happened cannot be known now. If it did, its charges are refunded before this process writes again."""

    def __init__(self, *, process_id: UUID) -> None:
        super().__init__(f"Whether the last commit of the process {process_id} happened cannot be read.")
        self.process_id = process_id  # Under which identity it was written.


class CreditPoolEmpty(BillingError):
    """The pool of free credit has too little left. Nothing was granted."""

    code = "credit_pool_empty"

    def __init__(self, *, pool: str, left_nanos: int, asked_nanos: int) -> None:
        super().__init__(f"The pool {pool!r} has {left_nanos} nanos left of the {asked_nanos} asked.")
        self.pool, self.left_nanos, self.asked_nanos = pool, left_nanos, asked_nanos


class GrantConflict(BillingError):
    """The reference was used for another account or amount. Nothing was granted."""

    code = "grant_conflict"

    def __init__(self, *, reference: str) -> None:
        super().__init__(f"The reference {reference!r} belongs to another grant.")
        self.reference = reference


class PeriodNotOver(BillingError):
    """The period has not ended, or ended so lately that calls of it may still settle. It was not closed."""

    code = "period_not_over"

    def __init__(self, *, ends_at: datetime) -> None:
        super().__init__(f"The period ends at {ends_at.isoformat()}.")
        self.ends_at = ends_at
