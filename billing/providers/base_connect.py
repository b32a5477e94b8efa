"""What billing needs of whoever pays the providers of models out. Amounts are whole cents."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectedState:
    """A provider's own account at the payment provider, as it is now."""

    id: str
    transfers_enabled: bool  # It may be sent money.
    payouts_enabled: bool  # Its bank account may.
    charges_enabled: bool
    details_submitted: bool  # Its owner has been through the form.
    requirements_due: tuple[str, ...]  # What has to be handed in, in the payment provider's words.
    disabled_reason: str
    reference: UUID | None  # The account that it is.


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectedOrder:
    """Whose account is to be made."""

    reference: UUID
    name: str
    country: str  # Two letters; it can never be changed.
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferOrder:
    """What a provider is to be sent."""

    reference: UUID
    destination: str
    amount_cents: int
    currency: str
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReversalState:
    """Money that came back from a transfer. It never changes."""

    id: str
    transfer: str
    amount_cents: int
    reference: UUID | None  # The reversal of ours that it is; None: made at the payment provider.


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferState:
    """A transfer as it is now, with all that came back of it."""

    id: str
    destination: str
    amount_cents: int
    currency: str
    reference: UUID | None  # The payout that it is.
    reversals: Sequence[ReversalState]


@dataclass(frozen=True, slots=True, kw_only=True)
class BankPayoutState:
    """Money on its way from a provider's account there to their bank."""

    id: str
    status: str  # Stripe's: "pending", "in_transit", "paid", "failed", "canceled".
    amount_cents: int
    currency: str
    arrives_at: datetime
    failure: str


class ConnectProvider(Protocol):
    """Pays providers out. As for `Provider`: each method is one call over the network, with the same errors and keys."""

    def create_connected(self, order: ConnectedOrder, *, key: str) -> ConnectedState:
        """Make an account; its owner fills it in on a page of the payment provider's."""
        ...

    def find_connected(self, order: ConnectedOrder) -> ConnectedState | None:
        """Return the account made for an order, if any."""
        ...

    def get_connected(self, identity: str) -> ConnectedState:
        """Return an account."""
        ...

    def open_onboarding(self, identity: str, *, return_url: str, refresh_url: str) -> str:
        """Return the address of the page on which its owner fills an account in. It works once, for some minutes."""
        ...

    def create_transfer(self, order: TransferOrder, *, key: str) -> TransferState:
        """Send money to an account."""
        ...

    def find_transfer(self, order: TransferOrder) -> TransferState | None:
        """Return the transfer made for an order, if any."""
        ...

    def get_transfer(self, identity: str) -> TransferState:
        """Return a transfer."""
        ...

    def transfers_since(self, moment: datetime) -> Iterator[TransferState]:
        """Yield the transfers of since a moment, the newest first."""
        ...

    def create_reversal(self, *, key: str, transfer: str, amount_cents: int, reference: UUID) -> ReversalState:
        """Take money back from a transfer; refused where the account holds less."""
        ...

    def get_bank_payout(self, identity: str, *, connected: str) -> BankPayoutState:
        """Return a payment from an account to its bank."""
        ...
