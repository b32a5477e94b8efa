"""Providers of models at the payment provider: made by the outbox, and known by what is fetched."""

import logging
from datetime import datetime, timedelta
from typing import Final

from django.db import transaction
from django.utils import timezone

from billing import outbox
from billing.errors import OnboardingNotStarted, PaymentsOff, ProviderRefused
from billing.models import Account, BankPayout, OutboxRow, PayoutAccount
from billing.providers import collects_money, provider
from billing.providers.base_connect import BankPayoutState, ConnectedOrder, ConnectedState

log = logging.getLogger(__name__)

# An account that nothing was heard of for so long is asked about: its webhooks may have been lost.
_PATIENCE: Final = timedelta(hours=1)
# Accounts asked about in one run: at 0.3 s each, what fits between two.
_ASKED_AT_ONCE: Final = 50
# Forward only: a bank may send money back that had seemed to arrive.
_BANK_RANK: Final = {"pending": 0, "in_transit": 1, "paid": 2, "canceled": 3, "failed": 3}


@transaction.atomic
def start_onboarding(account: Account, *, country: str) -> tuple[PayoutAccount, OutboxRow | None]:
    """Have an account made for a provider, where it has none; return it with the row that asks for it, if any waits.

    Args:
        account: Whose.
        country: Two letters, where its owner lives or is registered. Of an account that is made already it is not changed.

    Raises:
        PaymentsOff: this site pays nobody. Nothing was started.
    """
    if not collects_money():
        message = "This site collects no money, so it pays nobody out."
        raise PaymentsOff(message)
    payee = lock_payee(account)
    if payee.connected_id:
        return payee, None
    if not payee.country or payee.failure:  # The first time, or after a refusal: ask (again), perhaps with another country.
        payee.country, payee.failure = country.upper(), ""
        payee.save(update_fields=["country", "failure"])
    subject = f"{account.pk}/{payee.attempt}"
    parameters = {"name": account.name, "country": payee.country}
    return payee, outbox.enqueue(account, kind="account.create", subject=subject, parameters=parameters)


def lock_payee(account: Account) -> PayoutAccount:
    """Return a provider's payout account, locked until the transaction ends: changes of its money come one by one."""
    PayoutAccount.objects.get_or_create(account=account)
    return PayoutAccount.objects.select_for_update(of=("self",)).select_related("account").get(account=account)


def order_of(row: OutboxRow) -> ConnectedOrder:
    """Return whose account an outbox row asks for."""
    asked = row.parameters
    return ConnectedOrder(reference=row.account_id, name=asked["name"], country=asked["country"], created_at=row.created_at)


def onboarding_address(account: Account, *, return_url: str, refresh_url: str) -> str:
    """Return the address of the page on which a provider hands in what it is asked for. It works once.

    Raises:
        OnboardingNotStarted: there is no account there yet.
        ProviderUnavailable, ProviderRefused: there is no page now.
    """
    payee = PayoutAccount.objects.filter(account=account).exclude(connected_id="").first()
    if payee is None:
        raise OnboardingNotStarted
    return provider().open_onboarding(payee.connected_id, return_url=return_url, refresh_url=refresh_url)


@transaction.atomic
def apply_connected(account: Account, state: ConnectedState) -> None:
    """Note what the payment provider says of a provider's account. It may be restricted at any time, so the last look counts."""
    payee = lock_payee(account)
    if not payee.connected_id:
        payee.connected_id = state.id
    if payee.connected_id != state.id:
        return  # A second one, made when the first answer was forgotten: nothing is ever sent there.
    payee.transfers_enabled, payee.payouts_enabled = state.transfers_enabled, state.payouts_enabled
    payee.charges_enabled, payee.details_submitted = state.charges_enabled, state.details_submitted
    payee.requirements_due, payee.disabled_reason = list(state.requirements_due)[:50], state.disabled_reason[:120]
    payee.refreshed_at, payee.failure = timezone.now(), ""
    payee.save()


@transaction.atomic
def fail_connected(account: Account, *, failure: str) -> None:
    """Note that no account was made; the next try is a new one."""
    payee = lock_payee(account)
    payee.failure, payee.attempt = failure[:300], payee.attempt + 1
    payee.save(update_fields=["failure", "attempt"])


def refresh_payee(payee: PayoutAccount) -> None:
    """Ask about a provider's account.

    Raises:
        ProviderUnavailable, ProviderRefused: there was no answer. Nothing was changed.
    """
    if payee.connected_id:
        apply_connected(payee.account, provider().get_connected(payee.connected_id))


def refresh_quiet_payees(*, now: datetime) -> int:
    """Ask about the accounts that nothing was heard of for an hour, the longest quiet first; return how many there were."""
    quiet = PayoutAccount.objects.exclude(connected_id="").filter(refreshed_at__lt=now - _PATIENCE).select_related("account")
    payees = list(quiet.order_by("refreshed_at")[:_ASKED_AT_ONCE])
    for payee in payees:
        try:
            refresh_payee(payee)
        except ProviderRefused as error:  # It was closed, or cut off from us: the others are asked about all the same.
            log.warning("%s is not there any more: %s", payee, error)
            disable_payee(payee, why=error.reason)
    return len(payees)


@transaction.atomic
def disable_payee(payee: PayoutAccount, *, why: str) -> None:
    """Note that the payment provider does not know a provider's account any more: nothing is sent there."""
    payee = lock_payee(payee.account)
    payee.transfers_enabled = payee.payouts_enabled = False
    payee.disabled_reason, payee.refreshed_at = why[:120], timezone.now()
    payee.save(update_fields=["transfers_enabled", "payouts_enabled", "disabled_reason", "refreshed_at"])


@transaction.atomic
def apply_bank_payout(connected: str, state: BankPayoutState) -> bool:
    """Note how far a provider's money is on its way to their bank; False where the account is not ours."""
    payee = PayoutAccount.objects.filter(connected_id=connected).exclude(connected_id="").first()
    if payee is None:
        return False
    lock_payee(payee.account)
    facts = {"amount_cents": state.amount_cents, "currency": state.currency, "arrives_at": state.arrives_at}
    row, _ = BankPayout.objects.get_or_create(
        payout_id=state.id, defaults={"account_id": payee.account_id, "status": state.status[:20], "failure": state.failure[:80], **facts}
    )
    if _BANK_RANK.get(state.status, 0) > _BANK_RANK.get(row.status, 0):
        row.status, row.failure = state.status[:20], state.failure[:80]
        row.save(update_fields=["status", "failure"])
    return True


@transaction.atomic
def hold_payouts(account: Account) -> None:
    """Have a provider sent nothing until `release_payouts`. What it earns accrues all the same. Safe to repeat."""
    payee = lock_payee(account)
    if payee.held_at is None:
        payee.held_at = timezone.now()
        payee.save(update_fields=["held_at"])


@transaction.atomic
def release_payouts(account: Account) -> None:
    """Let a provider be paid out again. Safe to repeat."""
    payee = lock_payee(account)
    payee.held_at = None
    payee.save(update_fields=["held_at"])


@transaction.atomic
def suspend_payouts(account: Account, *, since: datetime | None) -> None:
    """Have a provider sent nothing while its organization is suspended; None: it is no longer."""
    payee = lock_payee(account)
    payee.suspended_at = since
    payee.save(update_fields=["suspended_at"])
