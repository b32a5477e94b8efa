"""The operator pages' own Content-Security-Policy (ADR 8)."""

from collections.abc import Callable

from csp.constants import SELF, UNSAFE_EVAL, UNSAFE_INLINE
from django.http import HttpRequest, HttpResponseBase


class OperatorPolicy:
    """Lets /admin/, and nothing else, run Alpine's expressions and carry inline styles.

    Unfold's pages are written in Alpine, which compiles attributes with `new Function`, and set
    colours in a `<style>` without a nonce. Scripts still come from this site's files alone: no
    inline script runs there either.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Answer the request; the policy's own middleware, around this one, writes the header."""
        response = self._get_response(request)
        if request.path.startswith("/admin/"):
            replaced = {"script-src": [SELF, UNSAFE_EVAL], "style-src": [SELF, UNSAFE_INLINE]}
            response._csp_replace = replaced  # type: ignore[attr-defined]  # noqa: SLF001 (what csp_replace itself sets)
        return response
