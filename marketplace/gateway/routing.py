"""Which paths are the gateway's, and what they name."""

import re
from typing import Final, NamedTuple

_NAME: Final = re.compile(r"[a-z0-9-]{1,40}")
ACTIONS: Final = frozenset({"predict", "estimate"})
PREFIX: Final = "/v1/models/"  # Every POST below it is the gateway's.


class Route(NamedTuple):
    """`/v1/models/{owner}/{name}[@{number}]/{action}`, taken apart."""

    action: str
    model_path: str  # "owner/name"
    number: int | None  # None: whichever live version the traffic weights choose.


def find_route(path: str) -> Route | None:
    """Return what a path asks of the gateway, or None."""
    if not path.startswith(PREFIX):
        return None
    parts = path[len(PREFIX) :].split("/")
    if len(parts) != 3 or parts[2] not in ACTIONS:
        return None
    owner, named, action = parts
    name, at, number = named.partition("@")
    # Checked before anything is looked up: what is looked up is remembered, absent or not.
    if not _NAME.fullmatch(owner) or not _NAME.fullmatch(name):
        return None
    if at and not (number.isascii() and number.isdigit() and len(number) <= 9):
        return None
    return Route(action=action, model_path=f"{owner}/{name}", number=int(number) if at else None)
