"""When providers are sent what they are owed, and whether what was sent is what the payment provider says."""

import logging
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final

from django.conf import settings
from django.utils import timezone

from billing.connecting import refresh_payee
from billing.errors import ProviderRefused, ProviderUnavailable
from billing.models import Account, Payout, PayoutAccount, PayoutCheck, PayoutReversal, PayoutRun
from billing.payable import payable_of
from billing.payouts import apply_transfer, make_payout, reverse_debt
from billing.providers import collects_money, provider
from billing.providers.base_connect import TransferState

log = logging.getLogger(__name__)

# What the daily comparison looks back on. A reversal may come months after its transfer, but tells of itself by a webhook.
_LOOK_BACK: Final = timedelta(days=90)
# A payout that the payment provider has not been asked for, or has just made, is not compared.
_SETTLES: Final = timedelta(hours=1)
_MAX_WORDS: Final = 300


def period_of(moment: datetime) -> str:
    """Return the week or month whose run a moment belongs to; empty where there are none."""
    if settings.PAYOUT_INTERVAL == "monthly":
        return f"{moment:%Y-%m}"
    year, week, _ = moment.isocalendar()
    return f"{year}-W{week:02}" if settings.PAYOUT_INTERVAL == "weekly" else ""


def run_due(*, now: datetime) -> int:
    """Make this week's or month's run, once; return how many payouts it made. A run that died is gone on with."""
    period = period_of(now)
    if not period or not collects_money() or PayoutRun.objects.filter(period=period, finished_at__isnull=False).exists():
        return 0
    run, _ = PayoutRun.objects.get_or_create(period=period)
    made = pay_providers(now=now, by="schedule")
    run.finished_at, run.payouts = timezone.now(), len(made)
    run.save(update_fields=["finished_at", "payouts"])
    return len(made)


def pay_providers(*, now: datetime, by: str) -> Sequence[Payout]:
    """Send every provider what it can be sent, and ask back what is owed; return the payouts that were made.

    Safe to run twice, or at the same time as itself. One whose account cannot be asked about is left for the next run.
    """
    made: list[Payout] = []
    for payee in PayoutAccount.objects.exclude(connected_id="").select_related("account").order_by("pk"):
        try:
            refresh_payee(payee)  # It may have been restricted since.
        except (ProviderUnavailable, ProviderRefused) as error:
            log.warning("%s could not be asked about (%s): it waits for the next run.", payee, error)
            continue
        made.extend(pay_provider(payee.account, now=now, by=by))
    return made


def pay_provider(account: Account, *, now: datetime, by: str) -> Sequence[Payout]:
    """Send one provider what it can be sent, or ask back what it owes; return the payouts that were made."""
    made = []
    for payable in payable_of(account, now=now):
        payout = make_payout(account, currency=payable.currency, by=by, now=now)
        if payout is not None:
            made.append(payout)
        elif payable.balance < 0 and settings.PAYOUT_REVERSE_DEBTS:
            reverse_debt(account, currency=payable.currency, by=by, now=now)
    return made


def check_today(*, now: datetime) -> list[str] | None:
    """Compare our payouts with the payment provider's list of transfers; None where it was done today.

    What only we had missed is put right on the way; what is returned needs somebody.

    Raises:
        ProviderUnavailable, ProviderRefused: the list could not be read; it is tried again.
    """
    if not collects_money() or not Payout.objects.exists():
        return None
    check, _ = PayoutCheck.objects.get_or_create(day=now.date())
    if check.finished_at is not None:
        return None
    transfers = list(provider().transfers_since(now - _LOOK_BACK))
    differences = list(_compare(transfers, now=now))
    check.finished_at, check.transfers, check.differences = timezone.now(), len(transfers), len(differences)
    check.first = differences[0][:_MAX_WORDS] if differences else ""
    check.save(update_fields=["finished_at", "transfers", "differences", "first"])
    return differences


def find_last_check() -> PayoutCheck | None:
    """Return the last comparison that came to its end, or None while none has."""
    return PayoutCheck.objects.filter(finished_at__isnull=False).order_by("-day").first()


def _compare(transfers: Sequence[TransferState], *, now: datetime) -> Iterator[str]:
    found: dict[str, TransferState] = {}
    by_payout: dict[object, str] = {}
    for state in transfers:
        if state.reference is None:
            continue  # Of another site on the same account, or made by hand.
        found[state.id] = state
        if (other := by_payout.setdefault(state.reference, state.id)) != state.id:
            yield f"payout {state.reference} was sent twice: by {other} and {state.id}"
        try:
            if not apply_transfer(state):
                yield f"transfer {state.id} of {state.amount_cents} {state.currency} is of no payout that is known"
        except ValueError as error:
            yield str(error)
    paid = Payout.objects.filter(status=Payout.Status.PAID, created_at__gt=now - _LOOK_BACK + _SETTLES, settled_at__lt=now - _SETTLES)
    for payout in paid.prefetch_related("reversals"):
        transfer = found.get(payout.transfer_id)
        if transfer is None:
            yield f"payout {payout.pk} of {payout.amount_cents} {payout.currency} has no transfer"
            continue
        came_back = sum(one.amount_cents for one in payout.reversals.all() if one.status == PayoutReversal.Status.DONE)
        at_provider = sum(one.amount_cents for one in transfer.reversals)
        if came_back != at_provider:
            yield f"of payout {payout.pk}, {came_back} cents came back; of its transfer, {at_provider}"
