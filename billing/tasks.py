"""Billing's work off the call. Every task may run twice, late, or at the same time as itself."""

import logging

from celery import shared_task

from billing import books, invoicing, recovery

log = logging.getLogger(__name__)


@shared_task
def reclaim_dead_processes() -> None:
    """Give back what dead gateway processes held, and refund what they may not have delivered."""
    recovery.reclaim_dead_processes()


@shared_task
def check_books() -> None:
    """Compare every balance with the facts it stands for, once an hour, and log each difference as an error.

    Asked for each minute, so that the first check does not wait an hour for a site that was just started.
    """
    for difference in books.check_this_hour() or ():
        log.error("The books differ: %s", difference)


@shared_task
def close_periods() -> None:
    """Close the past month of every account that used anything in it."""
    invoicing.close_periods()
