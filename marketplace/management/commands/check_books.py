"""`manage.py check_books`: compare every balance with the facts it stands for, now."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from billing.books import check_books
from billing.usage_books import find_checkpoint
from marketplace.reviews import act_on


class Command(BaseCommand):
    """Checks the books and tells each difference. Exits with 1 where there is one."""

    help = "Check the books: calls, postings, ledger, invoices, payments, payouts. Prints each difference and fails if there is any."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the arguments."""
        parser.add_argument("--full", action="store_true", help="sum up all calls there ever were, not only this month's")
        parser.add_argument(
            "--act", action="store_true", help="stop charging the accounts that differences concern, as the hourly check does"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Check and print."""
        checkpoint = None if options["full"] else find_checkpoint(timezone.now())
        differences = check_books(checkpoint)
        for difference in differences:
            self.stdout.write(str(difference))
        if differences and options["act"]:
            act_on(differences)
        of = f"calls from {checkpoint.until:%Y-%m-%d} on" if checkpoint else "all calls"
        if differences:
            message = f"{len(differences)} differences, {of}."
            raise CommandError(message)
        self.stdout.write(f"The books balance: {of}.")
