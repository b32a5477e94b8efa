"""Billing's work off the call. Every task may run twice, late, or at the same time as itself."""

import logging

from celery import shared_task
from django.utils import timezone

from billing import (
    collecting,
    dunning,
    expiring,
    feed_checks,
    feeding,
    invoicing,
    losses,
    payout_runs,
    posting,
    receipt_audit,
    recharging,
    recovery,
    rerating,
    sending,
    site_hours,
    webhooks,
)
from billing.errors import ProviderRefused, ProviderUnavailable

log = logging.getLogger(__name__)


@shared_task
def reclaim_dead_processes() -> None:
    """Give back what dead gateway processes held, and refund what they may not have delivered."""
    recovery.reclaim_dead_processes()


@shared_task
def post_usage() -> None:
    """Post the usage of hours that are over to the ledger, and what changed of hours before; then sum up the site's."""
    posting.post_usage()
    site_hours.sum_hours(now=timezone.now())


@shared_task
def post_all_usage() -> None:
    """Look at all hours there are: what a long silence left unposted, or a run that failed."""
    posting.post_usage(everything=True)
    site_hours.sum_hours(now=timezone.now(), everything=True)


@shared_task
def close_periods() -> None:
    """Close the past month of every account that used anything in it."""
    invoicing.close_periods()


@shared_task
def sweep_payments() -> None:
    """Charge the cards of accounts that run low, send the outbox, apply webhooks that wait."""
    recharging.recharge_due()
    sending.sweep()
    webhooks.apply_waiting()


@shared_task
def apply_event(event_id: str) -> None:
    """Apply one webhook now: what the sweep would do some seconds later."""
    webhooks.apply_event(event_id)


@shared_task
def catch_up_payments() -> None:
    """Hear of what the provider's webhooks did not tell."""
    try:
        webhooks.catch_up()
    except (ProviderUnavailable, ProviderRefused) as error:
        log.warning("The provider's events could not be read (%s); it is tried again in some minutes.", error)


@shared_task
def pay_providers() -> None:
    """Make this week's or month's run of payouts, once. Asked for every some minutes, so that none is missed.

    What lost disputes had paid for is refunded first: their shares must not be sent.
    """
    losses.refund_lost_disputes()
    payout_runs.run_due(now=timezone.now())


@shared_task
def check_payouts() -> None:
    """Compare payouts with the provider's own list of transfers, once a day, and log each difference as an error."""
    try:
        differences = payout_runs.check_today(now=timezone.now())
    except (ProviderUnavailable, ProviderRefused) as error:
        log.warning("The provider's transfers could not be read (%s); it is tried again in some minutes.", error)
        return
    for difference in differences or ():
        log.error("The payouts differ: %s", difference)


@shared_task
def feed_meters() -> None:
    """Have the provider's meters told of what was posted."""
    feeding.feed_meters()


@shared_task
def check_meters() -> None:
    """See what the provider's meters hold of the days that are over, once a day and account; the check of the books compares it."""
    try:
        feed_checks.look_at_meters()
    except (ProviderUnavailable, ProviderRefused) as error:
        log.warning("The provider's meters could not be read (%s); it is tried again in some minutes.", error)


@shared_task
def dun() -> None:
    """Note which invoices were not paid in time, and stop the credit lines whose days of grace are over."""
    now = timezone.now()
    for invoice in dunning.missed_invoices(now=now):
        collecting.mark_past_due(invoice)
    dunning.stop_lines(now=now)


@shared_task
def rederive_invoices() -> None:
    """Charge the calls of every closed invoice again, and log each that does not come to what it was charged as an error."""
    for difference in rerating.rederive_invoices():
        log.error("An invoice does not derive: %s", difference)


@shared_task
def check_receipts() -> None:
    """Make every receipt anew from its call, and log each that is not what was signed, or is missing, as an error."""
    for sentence in receipt_audit.check_receipts():
        log.error("A receipt does not hold: %s", sentence)


@shared_task
def expire_credit() -> None:
    """Take from accounts what has expired and is neither spent nor held."""
    expiring.expire_due()
