"""What a killed Celery worker had claimed, set free by hand: nobody has to wait for the minute until its claims end."""

import time
from dataclasses import dataclass, field
from typing import Final

from tests.flows.server import Site

_TABLES: Final = ("marketplace_prediction", "marketplace_webhookdelivery")
# What the dead asked the gateway or a receiver for may still be answered. A claim is longer than that.
_ANSWERED_WITHIN_S: Final = 3.0


@dataclass
class ClaimsOfTheDead:
    """The claims that were held when Celery's worker was killed."""

    site: Site
    _noted: list[tuple[str, str, str]] = field(default_factory=list)

    def kill_celery(self) -> None:
        """kill -9 Celery's worker; note what it had claimed, before the next one can claim anything."""
        self.site.kill_celery()
        with self.site.database() as database:
            for table in _TABLES:
                held = database.execute(f"SELECT id, claimed_until FROM {table} WHERE claimed_until IS NOT NULL").fetchall()
                self._noted += [(table, *row) for row in held]

    def end(self) -> None:
        """Have them end now, as they do by themselves later; those that a living worker has made meanwhile stay."""
        time.sleep(_ANSWERED_WITHIN_S)
        with self.site.database() as database:
            for table, pk, until in self._noted:
                database.execute(
                    f"UPDATE {table} SET claimed_until = '2000-01-01 00:00:00' WHERE id = ? AND claimed_until = ?", (pk, until)
                )
