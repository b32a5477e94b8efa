"""`manage.py backup FILE.tar.gz`: all of an embedded site in one file, while it runs."""

import sqlite3
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from marketplace.backups import NoSite, uses_sqlite, write_backup


class Command(BaseCommand):
    """Back the site up; docs/backup.md tells how to restore."""

    help = "Write database, secrets and published models into one file. Keep it as safe as the site."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Name the file."""
        parser.add_argument("file", type=Path, help="a new .tar.gz")

    def handle(self, *args: Any, **options: Any) -> None:
        """Write it."""
        try:
            size = write_backup(options["file"])
        except FileExistsError as error:
            message = f"{options['file']} already exists; a backup is never overwritten."
            raise CommandError(message) from error
        except (NoSite, OSError, sqlite3.Error) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{options['file']}: {size / 1e6:.1f} MB, read from {settings.VAR_DIR}, with the site's secrets in it.")
        if not uses_sqlite():
            self.stdout.write("The database is not in it: back PostgreSQL up with pg_dump.")
