"""`manage.py serve`: the whole site under one supervisor."""

import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from marketplace.serving import CannotServe, serve


class Command(BaseCommand):
    """Serve web pages, REST API, gateway and the work off the call, until Ctrl-C or SIGTERM."""

    help = "Run web, gateway, inference workers, Celery worker and beat under one supervisor, on HOST and PORT."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Say whether to set up first."""
        parser.add_argument("--setup", action="store_true", help="first do what `manage.py setup` does")

    def handle(self, *args: Any, **options: Any) -> None:
        """Become the supervisor; its exit status is this command's."""
        try:
            serve(setup=options["setup"], say=self._say)
        except CannotServe as error:
            raise CommandError(str(error)) from error
        except KeyboardInterrupt:  # During the setup; later the supervisor sees to it.
            sys.exit(130)

    def _say(self, line: str) -> None:
        self.stdout.write(line)
        self.stdout.flush()
