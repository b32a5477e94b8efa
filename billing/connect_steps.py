"""The outbox's steps towards paying providers out."""

from uuid import UUID

from billing import connecting, payouts
from billing.errors import ProviderRefused
from billing.models import OutboxRow, Payout, PayoutReversal
from billing.providers import provider
from billing.providers.base_connect import ConnectedState, ReversalState, TransferState
from billing.steps import Step


class CreateConnected(Step[ConnectedState]):
    """Makes a provider's account."""

    def ask(self, row: OutboxRow) -> ConnectedState:
        """Make it."""
        return provider().create_connected(connecting.order_of(row), key=row.idempotency_key)

    def look(self, row: OutboxRow) -> ConnectedState | None:
        """Find it by our account's id."""
        return provider().find_connected(connecting.order_of(row))

    def apply(self, row: OutboxRow, state: ConnectedState) -> None:
        """Note its id."""
        connecting.apply_connected(row.account, state)

    def refuse(self, row: OutboxRow, error: ProviderRefused) -> None:
        """Say why; the provider may try again."""
        connecting.fail_connected(row.account, failure=str(error))


class CreateTransfer(Step[TransferState]):
    """Sends a payout."""

    def ask(self, row: OutboxRow) -> TransferState:
        """Send it."""
        return provider().create_transfer(payouts.order_of(_payout(row)), key=row.idempotency_key)

    def look(self, row: OutboxRow) -> TransferState | None:
        """Find the transfer by the payout's id."""
        return provider().find_transfer(payouts.order_of(_payout(row)))

    def apply(self, row: OutboxRow, state: TransferState) -> None:  # noqa: ARG002 (every step's signature)
        """Note that it is sent."""
        payouts.apply_transfer(state)

    def refuse(self, row: OutboxRow, error: ProviderRefused) -> None:
        """Put it into the balance again."""
        payouts.fail_payout(_payout(row), failure=str(error))


class ReverseTransfer(Step[ReversalState]):
    """Asks money of a payout back."""

    def ask(self, row: OutboxRow) -> ReversalState:
        """Take it back."""
        reversal = _reversal(row)
        transfer, amount = reversal.payout.transfer_id, reversal.amount_cents
        return provider().create_reversal(key=row.idempotency_key, transfer=transfer, amount_cents=amount, reference=reversal.pk)

    def look(self, row: OutboxRow) -> ReversalState | None:
        """Find it among the transfer's reversals by our reversal's id."""
        transfer = provider().get_transfer(_reversal(row).payout.transfer_id)
        return next((state for state in transfer.reversals if state.reference == UUID(row.subject)), None)

    def apply(self, row: OutboxRow, state: ReversalState) -> None:  # noqa: ARG002 (every step's signature)
        """Put it into the balance."""
        payouts.apply_reversal(state)

    def refuse(self, row: OutboxRow, error: ProviderRefused) -> None:
        """Carry the debt on."""
        payouts.fail_reversal(_reversal(row), failure=str(error))


def _payout(row: OutboxRow) -> Payout:
    return Payout.objects.select_related("account").get(pk=row.subject)


def _reversal(row: OutboxRow) -> PayoutReversal:
    return PayoutReversal.objects.select_related("payout__account").get(pk=row.subject)
