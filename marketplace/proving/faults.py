"""Put something else in a thing's place for a while: how scenes plant a broken commit or a broker that is down."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import OperationalError, connections


@contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Have `owner.name` be `value` until the block ends."""
    original = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, original)


def losing_commit(*, after_it_happened: bool) -> Callable[[Any], None]:
    """Return a `_commit` for connections: the commit thread's next one fails as if the connection had broken, before or after its effect."""
    owner: Any = type(connections["default"])
    original: Callable[[Any], None] = owner._commit
    lost: list[bool] = []

    def commit(wrapper: Any) -> None:
        if threading.current_thread().name != "commit" or lost:
            original(wrapper)
            return
        lost.append(True)
        if after_it_happened:
            original(wrapper)
        else:
            wrapper.connection.rollback()
        message = "server closed the connection unexpectedly"
        raise OperationalError(message)

    return commit
