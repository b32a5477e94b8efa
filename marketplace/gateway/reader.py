"""Read the database off the event loop, in threads whose connections are ours to drop."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from django.db import DatabaseError, InterfaceError, connection

from marketplace.errors import ControlDataStale

log = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")


class Reader:
    """A few threads, each with a Django connection that is dropped when it fails."""

    def __init__(self, *, threads: int) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="reader")

    async def run(self, read: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Return what `read` returns.

        Raises:
            ControlDataStale: the database did not answer. We fail closed.
        """
        return await asyncio.get_running_loop().run_in_executor(self._executor, lambda: _guarded(read, *args, **kwargs))

    def close(self) -> None:
        """Close the threads; their connections go with them."""
        self._executor.shutdown(wait=True, cancel_futures=True)


def _guarded(read: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    try:
        return read(*args, **kwargs)
    except (DatabaseError, InterfaceError) as error:
        log.warning("The database cannot be read: %s", error)
        connection.close()  # The next read starts on a fresh connection.
        raise ControlDataStale from error
