"""What the webhooks of invoices are about: each fetches the invoice as it is now."""

from collections.abc import Callable, Mapping
from typing import Final

from billing import collecting
from billing.errors import GONE, ProviderRefused
from billing.providers import provider


def _invoice_changed(invoice_id: str) -> bool:
    try:
        state = provider().get_invoice(invoice_id)
    except ProviderRefused as error:
        if error.reason != GONE:
            raise
        return False  # A draft that was deleted since.
    return collecting.apply_invoice(state)


_TYPES: Final = (
    "created", "updated", "finalized", "finalization_failed", "sent", "paid", "payment_succeeded", "payment_failed", "payment_action_required",
    "overdue", "voided", "marked_uncollectible",
)  # fmt: skip
OURS: Final[Mapping[str, Callable[[str], bool]]] = {f"invoice.{name}": _invoice_changed for name in _TYPES}
