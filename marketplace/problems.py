"""The one table from errors to HTTP: status, title, and what the documentation says of each code.

Source: RFC 9457. `billing` and `inference` know nothing of HTTP; a test fails when an error
of theirs is missing here.
"""

from dataclasses import dataclass
from typing import Any, Final

from django.conf import settings

from billing.errors import BudgetExceeded, StorageUnavailable
from billing.money import to_decimal_string
from marketplace.errors import RateLimited

NOTHING: Final = "Nothing was run and nothing was charged."


@dataclass(frozen=True, slots=True)
class Problem:
    """One kind of refusal, and its documentation."""

    code: str
    status: int
    title: str
    happened: str
    charged: str
    remedy: str


_TABLE: Final = (
    Problem("key_missing", 401, "API key missing", "The request had no Authorization header.", NOTHING, "Send `Authorization: Bearer <key>`. A key never goes into the URL."),
    Problem("key_malformed", 401, "Not an API key", "What was sent does not have the form of a Farebox key.", NOTHING, "Send the whole key, as it was shown: it starts with fb_ and has 49 characters."),
    Problem("key_mistyped", 401, "API key mistyped", "The key looks right, but its checksum is not: a character was lost or changed.", NOTHING, "Copy the key again. If it is lost, make a new one; keys are shown only once."),
    Problem("key_unknown", 401, "API key unknown", "The key is well formed, but this site has no such key.", NOTHING, "Check that you call the site that issued it."),
    Problem("key_revoked", 401, "API key revoked", "Somebody revoked this key.", NOTHING, "Make a new key on the Keys page."),
    Problem("key_expired", 401, "API key expired", "The key's expiry has passed.", NOTHING, "Make a new key on the Keys page, or rotate keys before they expire."),
    Problem("session_required", 401, "Sign in first", "This address is for signed-in people.", NOTHING, "Sign in, then try again."),
    Problem("scope_missing", 403, "Not allowed with this key", "The key's kind or scopes do not include this.", NOTHING, "Use a key with the scope that the detail names."),
    Problem("address_not_allowed", 403, "Address not allowed", "The key has an IP allow-list, and the call came from elsewhere.", NOTHING, "Call from an allowed address, or change the key's list."),
    Problem("organization_suspended", 403, "Organization suspended", "The operator has suspended the organization.", NOTHING, "Write to the operator of the site."),
    Problem("budget_exceeded", 402, "Budget exceeded", "The call could cost more than a budget has left: the account's balance, or the key's monthly cap. The detail says which.", NOTHING, "Add credit, or raise the cap on the Keys page. A monthly cap starts anew on the first of the month, UTC."),
    Problem("max_cost_exceeded", 402, "X-Max-Cost exceeded", "The call could cost more than its own X-Max-Cost header allows.", NOTHING, "Send less, or raise X-Max-Cost. /estimate tells the highest cost of a body."),
    Problem("model_not_found", 404, "Model not found", "There is no live model or version of that name, or it is not yours to call.", NOTHING, "Look the name up in the catalogue, or with GET /v1/models."),
    Problem("not_found", 404, "Not found", "There is nothing at this address, or it is not yours.", NOTHING, "Check the address and the id."),
    Problem("method_not_allowed", 405, "Method not allowed", "The address exists, but does not take this method.", NOTHING, "Use a method that the Allow header names."),
    Problem("idempotency_in_progress", 409, "Still running", "The first request with this Idempotency-Key has not ended yet.", "The first request is charged once, if it is answered. This one is not.", "Wait as Retry-After says, and repeat the request: you get the first one's reply."),
    Problem("key_limit_reached", 409, "Too many keys", "The organization already holds as many live keys as it may.", NOTHING, "Revoke a key that is no longer used."),
    Problem("key_not_live", 409, "Key no longer live", "The key was revoked or has expired, so it cannot be rotated.", "Nothing was made.", "Make a new key."),
    Problem("body_too_large", 413, "Body too large", "The request's body is larger than the site reads.", NOTHING, "Send fewer or shorter examples in one call."),
    Problem("body_incomplete", 400, "Body incomplete", "The connection ended before the whole body had come.", NOTHING, "Send it again."),
    Problem("request_malformed", 400, "Malformed request", "The body is not JSON of the form that the address takes: the detail says where.", NOTHING, "Correct the request. Unknown and repeated fields, NaN and Infinity are refused."),
    Problem("header_invalid", 400, "Invalid header", "A request header has a value that cannot be used.", NOTHING, "Correct the header that the detail names."),
    Problem("invalid_input", 422, "Invalid input", "The JSON is sound, but the model does not take this input or these parameters.", NOTHING, "See the model's page for what it takes."),
    Problem("idempotency_key_reused", 422, "Idempotency-Key reused", "This Idempotency-Key was used before with another body.", NOTHING, "Use a fresh key for each different request."),
    Problem("version_invalid", 422, "Version cannot be published", "A check of the uploaded version failed: the detail says which.", NOTHING, "Correct the version and publish it again."),
    Problem("price_invalid", 422, "Invalid price", "The price cannot be set: the detail says why.", NOTHING, "Correct the price."),
    Problem("amount_malformed", 422, "Malformed amount", "The text is no amount of money.", NOTHING, 'Send a plain decimal of at most nine decimals, such as "12.50".'),
    Problem("grant_conflict", 409, "Reference already used", "The grant's reference belongs to another grant.", "Nothing was granted.", "Use a fresh reference for each grant."),
    Problem("credit_pool_empty", 409, "Free credit used up", "The site's pool of free credit has too little left.", "Nothing was granted.", "Ask the operator of the site for credit."),
    Problem("period_not_over", 409, "Period not over", "The billing period has not ended, or calls of it may still settle.", "Nothing was billed.", "Try again an hour after the period's end."),
    Problem("key_expiry_in_past", 422, "Expiry in the past", "A key's expiry must lie in the future.", NOTHING, "Send a later time, in RFC 3339 with its offset."),
    Problem("key_setting_invalid", 422, "Invalid key setting", "No key can have this setting: the detail says which, and why.", "Nothing was made.", "Correct the setting that errors[].param names."),
    Problem("rate_limited", 429, "Rate limit reached", "Too many calls in the last minute for this key or organization.", NOTHING, "Wait as Retry-After says. The RateLimit headers of every answer tell what is left."),
    Problem("too_many_at_once", 429, "Too many calls at once", "The organization has too many calls in flight.", NOTHING, "Wait for some to end, and send fewer at a time."),
    Problem("queue_full", 503, "Queue full", "More calls wait for this model than the site takes.", NOTHING, "Repeat after the time that Retry-After names."),
    Problem("engine_stopping", 503, "Restarting", "The site is restarting.", NOTHING, "Repeat in a few seconds."),
    Problem("worker_lost", 503, "Worker lost", "The process that ran the model ended twice during this call.", "Nothing was charged.", "Repeat the call. If it happens again with the same input, tell the model's owner."),
    Problem("model_failed", 503, "Model failed", "The model ended with an error on this input.", "Nothing was charged.", "Check the input against the model's page; if it is right, tell the model's owner."),
    Problem("model_load_failed", 503, "Model not available", "The model could not be loaded.", NOTHING, "Repeat later, or tell the model's owner."),
    Problem("storage_unavailable", 503, "Storage unavailable", "The site cannot write to its database, so it cannot record the call.", "Nothing was charged: what cannot be recorded is not billed.", "Repeat after the time that Retry-After names. The site recovers by itself."),
    Problem("control_data_stale", 503, "Database unavailable", "The site cannot read its database, so it cannot tell which keys are valid.", NOTHING, "Repeat after the time that Retry-After names."),
    Problem("price_missing", 503, "No price", "The model has no price that holds now.", NOTHING, "Tell the model's owner."),
    Problem("deadline_exceeded", 504, "Deadline exceeded", "The call did not end within its time limit.", "Nothing was charged.", "Send less at once, or raise X-Timeout-Ms."),
    Problem("internal_error", 500, "Internal error", "Something went wrong on our side, and is in the site's log under the request id.", "Nothing was charged.", "Repeat the call; if it fails again, send the operator the request id."),
)  # fmt: skip

PROBLEMS: Final = {problem.code: problem for problem in _TABLE}
_INTERNAL: Final = PROBLEMS["internal_error"]


def problem_of(error: Exception) -> Problem:
    """Return the documented problem an error stands for; `internal_error` for any other."""
    return PROBLEMS.get(getattr(error, "code", ""), _INTERNAL)


def status_of(error: Exception) -> int:
    """Return an error's HTTP status."""
    return problem_of(error).status


def type_url(code: str) -> str:
    """Return the address of a code's documentation."""
    return f"{settings.SITE_URL}/docs/errors/{code}"


def problem_fields(error: Exception, *, request_id: str) -> dict[str, Any]:
    """Return the members of an error's problem+json. Unforeseen errors show nothing of themselves."""
    problem = problem_of(error)
    detail = problem.happened if problem is _INTERNAL else _detail(error, problem)
    fields: dict[str, Any] = {
        "type": type_url(problem.code),
        "title": problem.title,
        "status": problem.status,
        "detail": detail,
        "code": problem.code,
        "request_id": request_id,
    }
    if param := getattr(error, "param", None):
        fields["errors"] = [{"param": param, "code": problem.code, "detail": detail}]
    return fields | _limit_facts(error)


def _detail(error: Exception, problem: Problem) -> str:
    """Return the sentence for the caller: the error's own where it was written for one."""
    if isinstance(error, BudgetExceeded):
        name = "The account's balance" if error.subject == "account" else "The key's monthly cap"
        left, asked = to_decimal_string(error.left_nanos), to_decimal_string(error.asked_nanos)
        return f"{name} has {left} left; this call could cost {asked}."
    if isinstance(error, StorageUnavailable):  # Its text is the database's, for the log only.
        return problem.happened
    return str(getattr(error, "detail", "") or problem.happened)


def _limit_facts(error: Exception) -> dict[str, Any]:
    """Return what 402 and 429 say of the limit: its name, size, use, reset, and where to raise it."""
    if isinstance(error, BudgetExceeded):
        is_balance = error.subject == "account"
        return {
            "policy": "balance" if is_balance else "monthly_cap",
            "limit": to_decimal_string(error.limit_nanos),
            "used": to_decimal_string(error.spent_nanos),
            "asked": to_decimal_string(error.asked_nanos),
            "resets_at": error.resets_at.isoformat().replace("+00:00", "Z") if error.resets_at else None,
            "raise_at": f"{settings.SITE_URL}/{'dashboard' if is_balance else 'keys'}/",
        }
    if isinstance(error, RateLimited):
        return {"policy": error.policy, "limit": error.limit, "window_s": error.window_s, "raise_at": f"{settings.SITE_URL}/keys/"}
    return {}
