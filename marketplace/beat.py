"""Celery's beat, for a schedule file that a crash or a full disk has left unreadable: it begins a new one."""

from typing import Any

from celery.beat import PersistentScheduler


class SturdyScheduler(PersistentScheduler):
    """Keeps when each task was last asked for, and goes on without where that cannot be read.

    Without `gdbm`, Python's `shelve` writes an index and its values in two files, and nothing makes
    them reach the disk together. Celery finds that out too late and stops, and so at each later start:
    no sweep would ever run again. A lost file costs a task that is asked for once a day some hours.
    """

    def _open_schedule(self) -> Any:
        """Open the file and read it once. What this raises, Celery takes for a damaged file and replaces it."""
        store = super()._open_schedule()
        try:
            store.get("entries")
        except Exception:
            store.close()
            raise
        return store
