"""`manage.py issue_key demo`: a new API key, printed once."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from marketplace.errors import KeyLimitReached
from marketplace.keys import KeySettings, issue_key
from marketplace.models import Organization


class Command(BaseCommand):
    """Issue an API key to an organization."""

    help = "Issue an API key and print it: it cannot be shown again."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Name the organization and the kind of key."""
        parser.add_argument("organization", help="the organization's short name, such as demo")
        parser.add_argument("--name", default="Made on the command line", help="what the Keys page calls it")
        parser.add_argument("--test", action="store_true", help="a test key: its calls are free, and few per minute")

    def handle(self, *args: Any, **options: Any) -> None:
        """Issue it; only the key goes to standard output, so that a script can take it."""
        organization = Organization.objects.filter(slug=options["organization"]).first()
        if organization is None:
            message = f"There is no organization {options['organization']!r}."
            raise CommandError(message)
        try:
            _, secret = issue_key(
                organization=organization,
                name=options["name"],
                settings=KeySettings(livemode=not options["test"]),
                by="command line",
            )
        except KeyLimitReached as error:
            raise CommandError(error.detail) from error
        self.stdout.write(secret)
