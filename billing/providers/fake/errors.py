"""What the fake refuses, in Stripe's own words and shape."""

from typing import Any, Final

_STATUS_TYPES: Final = {402: "card_error", 500: "api_error", 409: "idempotency_error"}


class ApiError(Exception):
    """One refusal, as the `error` object of an answer.

    Source: docs.stripe.com/api/errors.
    """

    def __init__(self, message: str, *, status: int = 400, param: str = "", code: str = "", kind: str = "", **more: Any) -> None:
        super().__init__(message)
        self.status = status
        kind = kind or _STATUS_TYPES.get(status, "invalid_request_error")
        self.error: dict[str, Any] = {"type": kind, "message": message, **more}
        if code:
            self.error["code"] = code
        if param:
            self.error["param"] = param


def missing(kind: str, identity: str, *, param: str = "id") -> ApiError:
    """Return the refusal of an id that names nothing."""
    return ApiError(f"No such {kind}: '{identity}'", status=404, code="resource_missing", param=param)
