"""The outbox's steps towards paying providers out."""

from billing import connecting
from billing.errors import ProviderRefused
from billing.models import OutboxRow
from billing.providers import provider
from billing.providers.base_connect import ConnectedState
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
