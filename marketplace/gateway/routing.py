"""Which paths are the gateway's, and what they name."""

from dataclasses import dataclass
from typing import Final

ACTIONS: Final = frozenset({"predict", "estimate"})
_PREFIX: Final = "/v1/models/"


@dataclass(frozen=True, slots=True)
class Route:
    """`/v1/models/{owner}/{name}[@{number}]/{action}`, taken apart."""

    action: str
    model_path: str  # "owner/name"
    number: int | None  # None: whichever live version the traffic weights choose.


def find_route(path: str) -> Route | None:
    """Return what a path asks of the gateway, or None: then it is Django's."""
    if not path.startswith(_PREFIX):
        return None
    parts = path[len(_PREFIX) :].split("/")
    if len(parts) != 3 or parts[2] not in ACTIONS:
        return None
    owner, named, action = parts
    name, at, number = named.partition("@")
    if not owner or not name or (at and not (number.isascii() and number.isdigit() and len(number) <= 9)):
        return None
    return Route(action=action, model_path=f"{owner}/{name}", number=int(number) if at else None)
