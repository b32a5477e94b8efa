"""`manage.py check_meters`: see what Stripe's meters hold now, and where all that was posted is."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from billing.errors import ProviderRefused, ProviderUnavailable
from billing.feed_books import meter_statement
from billing.feed_checks import look_at_meters
from billing.feeding import find_feeds
from billing.providers import collects_money
from marketplace.admin.meters import statement_text


class Command(BaseCommand):
    """Prints each meter's statement; exits with 1 where something is unexplained."""

    help = "Compare what Stripe's Billing Meters hold with what was posted. Prints where all of it is, and fails if a part is unexplained."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the arguments."""
        parser.add_argument("--look", action="store_true", help="ask Stripe first, also for accounts that were looked at today")

    def handle(self, *args: Any, **options: Any) -> None:
        """Look, and print."""
        feeds = find_feeds(now=timezone.now())
        if not feeds or not collects_money():  # Or who runs it without the site's settings would read success.
            message = "No meter is fed by these settings: run it with the STRIPE settings that the site runs with."
            raise CommandError(message)
        if options["look"]:
            try:
                self.stdout.write(f"{look_at_meters(again=True)} accounts looked at")
            except (ProviderUnavailable, ProviderRefused) as error:
                message = f"The meters could not be read: {error}"
                raise CommandError(message) from error
        unexplained = []
        for feed in feeds:
            statement = meter_statement(feed)
            self.stdout.write("\n  ".join([f"{feed} ({feed.quantity})", *statement_text(feed, statement)]))
            if statement.unexplained:
                unexplained.append(str(feed))
        if unexplained:
            message = f"Unexplained: {', '.join(unexplained)}."
            raise CommandError(message)
