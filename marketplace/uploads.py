"""Who may send a body of hundreds of megabytes: it is asked before the body is read."""

import re
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie
from importlib import import_module
from typing import Final

from django.conf import settings
from django.contrib.auth import SESSION_KEY

from marketplace.api.authentication import address_behind, usable_key
from marketplace.gateway.callers import caller_of

_API: Final = re.compile(r"/v1/models/[^/]+/[^/]+/versions")
_PAGES: Final = re.compile(r"/publish/(?:model/[^/]+/)?new/")


def is_upload(method: str, path: str) -> bool:
    """Whether a request may bring a version's files."""
    return method == "POST" and bool(_API.fullmatch(path) or _PAGES.fullmatch(path))


def admit_upload(path: str, headers: Mapping[str, str], *, peer: str) -> bool:
    """Whether whoever sends this may send much. Reads the database.

    Args:
        path: Of the request, an upload's.
        headers: Lowercase names.
        peer: The address that the connection came from.

    Raises:
        MarketplaceError: on the API, what its key is refused for.
    """
    if _PAGES.fullmatch(path):
        return _is_signed_in(headers.get("cookie", ""))
    key = usable_key(headers.get("authorization"), address=address_behind(peer, headers.get("x-forwarded-for")))
    caller_of(key).check_scope("models:write")
    return True


def _is_signed_in(cookies: str) -> bool:
    """Whether the session cookie is that of a signed-in person; the page itself checks what they may do."""
    try:
        morsel = SimpleCookie(cookies).get(settings.SESSION_COOKIE_NAME)
    except CookieError:
        return False
    if morsel is None:
        return False
    store = import_module(settings.SESSION_ENGINE).SessionStore(morsel.value)
    return bool(store.get(SESSION_KEY))
