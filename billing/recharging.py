"""Auto-recharge: buy credit with the saved card before it runs out, within a ceiling per month."""

import logging
from datetime import datetime
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from billing import ledger, outbox, topups
from billing.customers import check_not_frozen, lock_customer, notify, saved_cards
from billing.errors import CardMissing, PaymentsOff, RechargeInvalid
from billing.models import Account, AutoRecharge, Customer, Notice, TopUp
from billing.periods import month_of
from billing.providers import collects_money
from billing.sums import total_of

log = logging.getLogger(__name__)

_ASKS_FOR_ITS_OWNER = "authentication_required"


@transaction.atomic
def set_auto_recharge(account: Account, *, threshold_nanos: int, amount_cents: int, monthly_ceiling_cents: int) -> AutoRecharge:
    """Turn auto-recharge on, or change it; it starts anew where a refused card had paused it.

    Raises:
        PaymentsOff, PaymentsFrozen: nothing was changed.
        CardMissing: the account has no saved card. Nothing was changed.
        RechargeInvalid: the amounts do not fit together. Nothing was changed.
    """
    if not collects_money():
        message = "This site collects no money."
        raise PaymentsOff(message)
    check_not_frozen(lock_customer(account))
    if not saved_cards(account):
        message = "There is no saved card: the first top-up saves one."
        raise CardMissing(message)
    minimum, maximum = settings.TOP_UP_MIN_CENTS, settings.TOP_UP_MAX_CENTS
    if not minimum <= amount_cents <= maximum:
        message = f"The amount must be within {minimum / 100:.2f} and {maximum / 100:.2f}."
        raise RechargeInvalid(message)
    if monthly_ceiling_cents < amount_cents:
        message = "The ceiling of a month must hold at least one recharge."
        raise RechargeInvalid(message)
    values = {"threshold_nanos": threshold_nanos, "amount_cents": amount_cents, "monthly_ceiling_cents": monthly_ceiling_cents}
    recharge, _ = AutoRecharge.objects.update_or_create(
        account=account, defaults={**values, "is_on": True, "paused_at": None, "pause_reason": ""}
    )
    return recharge


def stop_auto_recharge(account: Account) -> None:
    """Turn auto-recharge off. A charge that is on its way still arrives."""
    AutoRecharge.objects.filter(account=account).update(is_on=False)


def recharge_due() -> list[UUID]:
    """Start a charge for every account that runs low; return the outbox rows. Safe at the same time as itself."""
    if not collects_money():
        return []
    started = [_recharge(recharge.account) for recharge in _running_low()]
    return [row_id for row_id in started if row_id is not None]


def note_refusal(top_up: TopUp, *, payment: str) -> None:
    """Pause after a refused card: a person has to see to it, and is told. In a transaction."""
    kind = Notice.Kind.AUTHENTICATION_REQUIRED if top_up.failure == _ASKS_FOR_ITS_OWNER else Notice.Kind.CARD_DECLINED
    AutoRecharge.objects.filter(account=top_up.account_id, paused_at__isnull=True).update(
        paused_at=timezone.now(), pause_reason=top_up.failure
    )
    notify(top_up.account, kind, subject=top_up.pk)
    if payment:  # Nobody may complete it later, when the customer has paid in another way.
        outbox.enqueue(top_up.account, kind="payment.cancel", subject=top_up.pk, parameters={"payment": payment})


def charged_this_month(account: Account, *, now: datetime) -> int:
    """Return the cents of this month's auto-recharges that were paid or may still be."""
    starts_at, ends_at = month_of(now)
    made = TopUp.objects.filter(account=account, source=TopUp.Source.AUTO, created_at__gte=starts_at, created_at__lt=ends_at)
    return total_of(made.exclude(status__in=[TopUp.Status.FAILED, TopUp.Status.EXPIRED]), "amount_cents")


def _running_low() -> list[AutoRecharge]:
    """Return the recharges whose account is below its threshold and waits for nothing."""
    waiting = TopUp.objects.filter(source=TopUp.Source.AUTO, status__in=topups.UNSETTLED).values("account_id")
    watched = AutoRecharge.objects.filter(is_on=True, paused_at__isnull=True, account__customer__frozen_at__isnull=True)
    watched = watched.exclude(account__in=waiting).select_related("account")
    return [recharge for recharge in watched if _is_low(recharge)]


def _is_low(recharge: AutoRecharge) -> bool:
    now = ledger.balance(recharge.account)
    return now.granted - now.spent < recharge.threshold_nanos


@transaction.atomic
def _recharge(account: Account) -> UUID | None:
    """Start one charge, having looked again under the customer's lock."""
    customer: Customer = lock_customer(account)
    recharge = AutoRecharge.objects.get(account=account)
    is_waiting = TopUp.objects.filter(account=account, source=TopUp.Source.AUTO, status__in=topups.UNSETTLED).exists()
    if is_waiting or not recharge.is_on or recharge.paused_at or customer.frozen_at or not _is_low(recharge):
        return None
    cards = saved_cards(account)
    if not cards:
        AutoRecharge.objects.filter(pk=recharge.pk).update(paused_at=timezone.now(), pause_reason="card_missing")
        return None
    now = timezone.now()
    if charged_this_month(account, now=now) + recharge.amount_cents > recharge.monthly_ceiling_cents:
        notify(account, Notice.Kind.CEILING_REACHED, subject=f"{account.pk}/{now:%Y-%m}")
        return None
    top_up = TopUp.objects.create(
        account=account,
        amount_cents=recharge.amount_cents,
        currency=account.currency,
        source=TopUp.Source.AUTO,
        by="auto-recharge",
        card_id=cards[0].card_id,
    )
    log.info("Account %s runs low: %d cents are charged.", account.pk, top_up.amount_cents)
    return outbox.enqueue(account, kind="card.charge", subject=top_up.pk, parameters={"card": cards[0].card_id}).pk
