"""Which paths are the gateway's, and what they name."""

import re
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from marketplace.errors import MethodNotAllowed, ModelNotFound

PREFIX: Final = "/v1/models/"  # Every POST below it is the gateway's, but those of _VERSIONS.
# Uploads and what is done to versions: the REST API's.
_VERSIONS: Final = re.compile(r"/v1/models/[^/]*/[^/]*/versions(?:/|\Z)")
ACTIONS: Final = frozenset({"predict", "predictions", "estimate", "explain"})
# The Open Inference Protocol's: all of it is the gateway's, whatever the method.
V2_PREFIX: Final = "/v2"
# What may follow a model's name there, with its method.
V2_MODEL_ACTIONS: Final[Mapping[tuple[str, ...], tuple[str, str]]] = {
    (): ("GET", "metadata"),
    ("ready",): ("GET", "model_ready"),
    ("config",): ("GET", "config"),
    ("stats",): ("GET", "statistics"),
    ("infer",): ("POST", "infer"),
}
V2_SITE_ACTIONS: Final[Mapping[tuple[str, ...], tuple[str, str]]] = {
    (): ("GET", "server"),
    ("health", "live"): ("GET", "live"),
    ("health", "ready"): ("GET", "ready"),
    ("models", "stats"): ("GET", "statistics"),
    ("repository", "index"): ("POST", "index"),
}
# Triton's addresses for those who run the server. Here that is the operator, who has other means.
V2_NOT_OFFERED: Final = re.compile(
    r"/v2/(?:repository/models/.+/(?:load|unload)|(?:models/.+/)?trace/setting|logging|(?:system|cuda)sharedmemory/.+)"
)
_NAME: Final = re.compile(r"[a-z0-9-]{1,40}")


class Route(NamedTuple):
    """What a path asks for, taken apart."""

    action: str
    model_path: str  # "owner/name"; empty where the address names no model.
    number: int | None  # None: whichever live version the traffic weights choose.


def is_gateways(method: str, path: str) -> bool:
    """Whether a request is the gateway's to answer, if only with a refusal."""
    return (method == "POST" and path.startswith(PREFIX) and not _VERSIONS.match(path)) or is_v2(path)


def is_v2(path: str) -> bool:
    """Whether a path is of the Open Inference Protocol."""
    return path.startswith(V2_PREFIX) and path[len(V2_PREFIX) :][:1] in {"", "/"}


def find_route(method: str, path: str) -> Route | None:
    """Return what a request asks of the gateway, or None.

    Raises:
        MethodNotAllowed: the path is there, but takes another method.
        ModelNotFound: it names a model without its owner.
    """
    if path.startswith(PREFIX):
        return _find_native(path)
    return _find_v2(method, path) if is_v2(path) else None


def _find_native(path: str) -> Route | None:
    """Take `/v1/models/{owner}/{name}[@{number}]/{action}` apart."""
    parts = path[len(PREFIX) :].split("/")
    if len(parts) != 3 or parts[2] not in ACTIONS:
        return None
    owner, named, action = parts
    name, at, number = named.partition("@")
    # Checked before anything is looked up: what is looked up is remembered, absent or not.
    if not _NAME.fullmatch(owner) or not _NAME.fullmatch(name):
        return None
    if at and not _is_number(number):
        return None
    return Route(action=action, model_path=f"{owner}/{name}", number=int(number) if at else None)


def _find_v2(method: str, path: str) -> Route | None:
    parts = path.removesuffix("/").split("/")[2:]
    if found := V2_SITE_ACTIONS.get(tuple(parts)):
        return _checked(method, *found, model_path="", number=None)
    # One regular expression over a stranger's path: bounded, because `.+` makes it quadratic.
    if len(path) <= 400 and V2_NOT_OFFERED.fullmatch(path):
        return Route(action="not_offered", model_path="", number=None)
    if parts[0] != "models":
        return None
    return _find_v2_model(method, parts[1:])


def _find_v2_model(method: str, parts: Sequence[str]) -> Route | None:
    """Take `{model}[/versions/{number}][/{action}]` apart; a model is `owner/name` or `owner--name`."""
    if not parts:
        return None
    # A model's name holds no two hyphens in a row, so the last two are ours.
    owner, hyphens, name = parts[0].rpartition("--")
    rest = parts[1:]
    if not hyphens and rest:
        owner, name, rest = parts[0], parts[1], parts[2:]
    number = None
    if len(rest) >= 2 and rest[0] == "versions":
        if not _is_number(rest[1]):
            return None
        number, rest = int(rest[1]), rest[2:]
    if method == "POST" and not rest and name == "infer":  # `models/{name}/infer`, as elsewhere.
        message = "Models are named owner/model, or owner--model."
        raise ModelNotFound(message)
    found = V2_MODEL_ACTIONS.get(tuple(rest))
    if found is None or not _NAME.fullmatch(owner) or not _NAME.fullmatch(name):
        return None
    return _checked(method, *found, model_path=f"{owner}/{name}", number=number)


def _checked(method: str, wanted: str, action: str, *, model_path: str, number: int | None) -> Route:
    if method != wanted:
        raise MethodNotAllowed(allow=wanted)
    return Route(action=action, model_path=model_path, number=number)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 9
