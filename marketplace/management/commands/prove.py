"""`manage.py prove`: the promises, under faults, on the reader's own machine."""

import json
import sys
import time
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from marketplace.proving.promises import PROMISES
from marketplace.proving.rows import Row, Verdict
from marketplace.proving.running import try_promises


class Command(BaseCommand):
    """Try to break each promise, print a row for it, and say by the exit status whether all held."""

    help = (
        "Try to break each of the promises of docs/promises.md on a site made for it, under faults; your own data is not touched. "
        "Exit status: 0 all held, 1 one was broken, 2 one could not be tried."
    )
    requires_system_checks: list[str] = []  # They are about the site that is not looked at.

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Choose promises and form."""
        parser.add_argument("--only", type=int, action="append", metavar="N", help="only this promise; may be given again")
        parser.add_argument("--json", action="store_true", help="print one JSON object instead of rows")

    def handle(self, *args: Any, **options: Any) -> None:
        """Print each row as it comes."""
        numbers = sorted(set(options["only"] or PROMISES))
        if unknown := set(numbers) - PROMISES.keys():
            message = f"There is no promise {min(unknown)}: they are {', '.join(map(str, PROMISES))}."
            raise CommandError(message)
        # Not on standard output, which holds the rows. The first takes a while: its site's database is made before it.
        self.stderr.write("Making a site to try them on. Each row follows as soon as it is known.", self.style.NOTICE)
        self.stderr.flush()
        began, rows = time.monotonic(), list[Row]()
        for row in try_promises(numbers):
            rows.append(row)
            if not options["json"]:
                self.stdout.write(row.render())
                self.stdout.flush()
        counts = {verdict: sum(row.verdict == verdict for row in rows) for verdict in Verdict}
        if options["json"]:
            self.stdout.write(json.dumps({"rows": [row.as_json() for row in rows], "counts": counts}, indent=2))
        else:
            told = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
            self.stdout.write(f"{told}, in {time.monotonic() - began:.0f} s.")
        if counts[Verdict.FAILED]:
            sys.exit(1)
        if counts[Verdict.UNTRIED]:
            sys.exit(2)
