"""The part of `StripeProvider` that pays providers out (Stripe Connect, separate charges and transfers).

Source: docs.stripe.com/connect/separate-charges-and-transfers. Express accounts: Stripe collects what the
law wants to know of their owners, and shows them their money; we never see either.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from billing.providers.base_connect import BankPayoutState, ConnectedOrder, ConnectedState, ReversalState, TransferOrder, TransferState
from billing.providers.metadata import reference_in

_ACCOUNT: Final = "farebox_account"
_PAYOUT: Final = "farebox_payout"
_REVERSAL: Final = "farebox_reversal"
_PAGE: Final = 100
_SLACK_S: Final = 3600
# Reversals that a transfer shows without being asked.
_SHOWN: Final = 10


class ConnectCalls:
    """Calls over the client of `StripeProvider`."""

    _client: Any

    def _errors(self) -> AbstractContextManager[None]:
        """Return what turns the library's errors into ours: `StripeProvider`'s file alone imports the library."""
        raise NotImplementedError

    def create_connected(self, order: ConnectedOrder, *, key: str) -> ConnectedState:
        """Make an Express account that can be sent money, and nothing else."""
        with self._errors():
            made = self._client.v1.accounts.create(
                {
                    "type": "express",
                    "country": order.country,
                    "capabilities": {"transfers": {"requested": True}},
                    "business_profile": {"name": order.name},
                    "metadata": {_ACCOUNT: str(order.reference)},
                },
                {"idempotency_key": key},
            )
        return _connected(made)

    def find_connected(self, order: ConnectedOrder) -> ConnectedState | None:
        """Return the account made for an order: there is no search, so those made since are read."""
        with self._errors():
            listed = self._client.v1.accounts.list({"created": {"gte": int(order.created_at.timestamp()) - _SLACK_S}, "limit": _PAGE})
            return next((state for state in map(_connected, listed.auto_paging_iter()) if state.reference == order.reference), None)

    def get_connected(self, identity: str) -> ConnectedState:
        """Return an account."""
        with self._errors():
            return _connected(self._client.v1.accounts.retrieve(identity))

    def open_onboarding(self, identity: str, *, return_url: str, refresh_url: str) -> str:
        """Return the address of Stripe's form."""
        asked = {"account": identity, "type": "account_onboarding", "return_url": return_url, "refresh_url": refresh_url}
        with self._errors():
            return str(self._client.v1.account_links.create(asked).url)

    def create_transfer(self, order: TransferOrder, *, key: str) -> TransferState:
        """Send money; the group, our payout's id, is how it is found again."""
        with self._errors():
            made = self._client.v1.transfers.create(
                {
                    "amount": order.amount_cents,
                    "currency": order.currency,
                    "destination": order.destination,
                    "description": order.description,
                    "transfer_group": _group(order.reference),
                    "metadata": {_PAYOUT: str(order.reference)},
                },
                {"idempotency_key": key},
            )
        return self._transfer(made)

    def find_transfer(self, order: TransferOrder) -> TransferState | None:
        """Return the transfer of a payout."""
        with self._errors():
            listed = self._client.v1.transfers.list({"transfer_group": _group(order.reference), "limit": _PAGE})
            found = next((one for one in listed.auto_paging_iter() if reference_in(one.metadata, _PAYOUT) == order.reference), None)
        return self._transfer(found) if found else None

    def get_transfer(self, identity: str) -> TransferState:
        """Return a transfer."""
        with self._errors():
            found = self._client.v1.transfers.retrieve(identity)
        return self._transfer(found)

    def transfers_since(self, moment: datetime) -> Iterator[TransferState]:
        """Yield transfers, the newest first."""
        with self._errors():
            listed = self._client.v1.transfers.list({"created": {"gte": int(moment.timestamp())}, "limit": _PAGE})
            for one in listed.auto_paging_iter():
                yield self._transfer(one)

    def create_reversal(self, *, key: str, transfer: str, amount_cents: int, reference: UUID) -> ReversalState:
        """Take money back from a transfer."""
        with self._errors():
            made = self._client.v1.transfers.reversals.create(
                transfer, {"amount": amount_cents, "metadata": {_REVERSAL: str(reference)}}, {"idempotency_key": key}
            )
        return _reversal(made)

    def get_bank_payout(self, identity: str, *, connected: str) -> BankPayoutState:
        """Return a payout of an account, asked for in that account's name."""
        with self._errors():
            found = self._client.v1.payouts.retrieve(identity, {}, {"stripe_account": connected})
        return BankPayoutState(
            id=found.id,
            status=found.status,
            amount_cents=found.amount,
            currency=found.currency,
            arrives_at=datetime.fromtimestamp(found.arrival_date, UTC),
            failure=str(found.failure_code or ""),
        )

    def _transfer(self, made: Any) -> TransferState:
        reversals = list(made.reversals.data)
        if made.reversals.has_more or len(reversals) > _SHOWN:
            with self._errors():
                reversals = list(self._client.v1.transfers.reversals.list(made.id, {"limit": _PAGE}).auto_paging_iter())
        return TransferState(
            id=made.id,
            destination=made.destination if isinstance(made.destination, str) else made.destination.id,
            amount_cents=made.amount,
            currency=made.currency,
            reference=reference_in(made.metadata, _PAYOUT),
            reversals=[_reversal(one) for one in reversals],
        )


def _group(payout: UUID) -> str:
    return f"farebox_payout_{payout.hex}"


def _connected(made: Any) -> ConnectedState:
    needs = made.requirements
    return ConnectedState(
        id=made.id,
        transfers_enabled=getattr(made.capabilities, "transfers", None) == "active",
        payouts_enabled=bool(made.payouts_enabled),
        charges_enabled=bool(made.charges_enabled),
        details_submitted=bool(made.details_submitted),
        requirements_due=tuple(sorted({*(needs.past_due or ()), *(needs.currently_due or ())})) if needs else (),
        disabled_reason=str(needs.disabled_reason or "") if needs else "",
        reference=reference_in(made.metadata, _ACCOUNT),
    )


def _reversal(made: Any) -> ReversalState:
    transfer = made.transfer if isinstance(made.transfer, str) else made.transfer.id
    return ReversalState(id=made.id, transfer=transfer, amount_cents=made.amount, reference=reference_in(made.metadata, _REVERSAL))
