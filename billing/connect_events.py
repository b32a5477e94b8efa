"""What the webhooks of Stripe Connect are about: our transfers, and the objects of connected accounts."""

from collections.abc import Callable, Mapping
from typing import Final

from billing import connecting, payouts
from billing.models import Account, PayoutAccount
from billing.providers import provider


def _account_changed(connected: str, object_id: str) -> bool:  # noqa: ARG001 (every handler's signature)
    state = provider().get_connected(connected)
    known = PayoutAccount.objects.select_related("account").filter(connected_id=connected).first()
    # Its own webhook may come before the answer to the request that makes it.
    account = known.account if known else Account.objects.filter(pk=state.reference).first() if state.reference else None
    if account is None:
        return False
    connecting.apply_connected(account, state)
    return True


def _bank_payout_changed(connected: str, payout_id: str) -> bool:
    if not PayoutAccount.objects.filter(connected_id=connected).exclude(connected_id="").exists():
        return False
    return connecting.apply_bank_payout(connected, provider().get_bank_payout(payout_id, connected=connected))


def _transfer_changed(transfer_id: str) -> bool:
    return payouts.apply_transfer(provider().get_transfer(transfer_id))


# By type: what happened in our own account. Given the object's id.
OURS: Final[Mapping[str, Callable[[str], bool]]] = {
    "transfer.created": _transfer_changed,
    "transfer.updated": _transfer_changed,
    "transfer.reversed": _transfer_changed,
}
# By type: what happened in a connected account. Given the account's id and the object's.
CONNECTED: Final[Mapping[str, Callable[[str, str], bool]]] = {
    "account.updated": _account_changed,
    "payout.created": _bank_payout_changed,
    "payout.updated": _bank_payout_changed,
    "payout.paid": _bank_payout_changed,
    "payout.failed": _bank_payout_changed,
    "payout.canceled": _bank_payout_changed,
}
