"""How an attempt to break a promise ends: it held (the attempt returns what was seen), it broke, or nothing could be tried."""


class Broken(Exception):
    """The promise does not hold; the message says what was seen."""


class Untried(Exception):
    """What the attempt needs is not there; the message says what. Nothing was shown either way."""


def require(holds: bool, seen: str) -> None:  # noqa: FBT001 (reads as `assert` does, which `python -O` leaves out)
    """Raise Broken with what was seen, unless it holds."""
    if not holds:
        raise Broken(seen)
