"""`manage.py examine`: examine the versions that wait, then end. Celery starts it; so may the operator."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from inference import sandbox
from marketplace.examining import examine_waiting


class Command(BaseCommand):
    """Examine uploaded versions until none waits."""

    help = "Examine the versions that wait to be published, each in sandboxed processes, until none waits."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Take the id of whoever starts it, if it shall not outlive that process."""
        parser.add_argument("--parent-pid", type=int, default=0, help="end with this process")

    def handle(self, *args: Any, **options: Any) -> None:
        """Examine them."""
        if options["parent_pid"]:
            sandbox.detach(parent_pid=options["parent_pid"])
        self.stdout.write(f"Examined {examine_waiting()} versions.")
