"""`manage.py setup`: bring database, static files and starter data up to date."""

from typing import Any

from django.core.management.base import BaseCommand

from marketplace.greeting import describe_started
from marketplace.installation import install


class Command(BaseCommand):
    """Make what the site lacks; safe to repeat."""

    help = "Migrate the database, collect static files, and make the starter catalogue, demo organization and operator where missing."

    def handle(self, *args: Any, **options: Any) -> None:
        """Do it, and print what can be shown only now."""
        for line in describe_started(install(say=self.stdout.write)):
            self.stdout.write(line)
