"""`manage.py post_usage`: post usage to the ledger now, as the scheduled task does."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from billing.posting import post_usage


class Command(BaseCommand):
    """Posts what can be posted."""

    help = "Post the usage of hours that are over to the ledger. Running it twice posts nothing twice."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the arguments."""
        parser.add_argument("--all", action="store_true", help="look at all hours there are, not only at the last two days")

    def handle(self, *args: Any, **options: Any) -> None:
        """Post and tell."""
        self.stdout.write(f"{post_usage(everything=options['all'])} rows posted")
