"""The one table from errors to HTTP: status, title, and what the documentation says of each code.

Source: RFC 9457. `billing` and `inference` know nothing of HTTP; a test fails when an error
of theirs is missing here.
"""

import math
from dataclasses import dataclass
from typing import Any, Final

from django.conf import settings
from django.utils.translation import gettext_noop as _  # English on the wire; the documentation pages translate.

from billing.errors import BudgetExceeded, FeeUnpaid, QuotaExceeded, StorageUnavailable
from billing.money import to_decimal_string
from billing.periods import render_moment
from marketplace.errors import MaxCostExceeded, RateLimited
from marketplace.models.caps import BALANCE, name_of

NOTHING: Final = _("Nothing was run and nothing was charged.")


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
    Problem("key_missing", 401, _("API key missing"), _("The request had no Authorization header."), NOTHING, _("Send `Authorization: Bearer <key>`. A key never goes into the URL.")),
    Problem("key_malformed", 401, _("Not an API key"), _("What was sent does not have the form of a Farebox key."), NOTHING, _("Send the whole key, as it was shown: it starts with fb_ and has 49 characters.")),
    Problem("key_mistyped", 401, _("API key mistyped"), _("The key looks right, but its checksum is not: a character was lost or changed."), NOTHING, _("Copy the key again. If it is lost, make a new one; keys are shown only once.")),
    Problem("key_unknown", 401, _("API key unknown"), _("The key is well formed, but this site has no such key."), NOTHING, _("Check that you call the site that issued it.")),
    Problem("key_revoked", 401, _("API key revoked"), _("Somebody revoked this key."), NOTHING, _("Make a new key on the Keys page.")),
    Problem("key_expired", 401, _("API key expired"), _("The key's expiry has passed."), NOTHING, _("Make a new key on the Keys page, or rotate keys before they expire.")),
    Problem("metrics_token_invalid", 401, _("Metrics are the operator’s"), _("/metrics was asked without the token that the operator has set, or from another machine while none is set."), NOTHING, _("Send the METRICS_TOKEN of the site’s settings as `Authorization: Bearer <token>`.")),
    Problem("scope_missing", 403, _("Not allowed with this key"), _("The key's kind or scopes do not include this."), NOTHING, _("Use a key with the scope that the detail names.")),
    Problem("address_not_allowed", 403, _("Address not allowed"), _("The key has an IP allow-list, and the call came from elsewhere."), NOTHING, _("Call from an allowed address, or change the key's list.")),
    Problem("organization_suspended", 403, _("Organization suspended"), _("The operator has suspended the organization."), NOTHING, _("Write to the operator of the site.")),
    Problem("account_under_review", 503, _("Account under review"), _("The site’s check of its books found a difference that concerns your account, so it charges you nothing until the operator has looked at it. The operator knows."), NOTHING, _("Try again later. Calls with test keys work meanwhile.")),
    Problem("budget_exceeded", 402, _("Budget exceeded"), _("The call could cost more than a budget has left: the account's balance, or a cap of the organization or the key. The detail says which."), NOTHING, _("Add credit, or raise the cap on the Budgets page. A daily cap starts anew at midnight, a monthly one on the first of the month, UTC.")),
    Problem("quota_exceeded", 402, _("Quota used up"), _("The organization's plan includes a fixed number of units a month, and too few of them are left for this call."), NOTHING, _("Change to a larger plan on the Billing page, or wait for the next month, UTC.")),
    Problem("fee_unpaid", 402, _("Fee not covered"), _("The balance has too little left for the plan's fee."), _("Nothing was charged or changed."), _("Top up on the Billing page, and try again.")),
    Problem("plan_invalid", 422, _("Invalid plan"), _("The plan cannot be made so: the detail says why."), _("Nothing was made."), _("Correct what the detail names.")),
    Problem("plan_not_offered", 409, _("Plan not offered"), _("The plan takes nobody new, or is of another currency than the account."), _("Nothing was charged or changed."), _("Choose one of the plans that GET /v1/plans lists.")),
    Problem("already_subscribed", 409, _("Already subscribed"), _("The organization has this plan already."), _("Nothing was charged or changed."), _("Look at the subscription on the Billing page.")),
    Problem("subscription_ended", 409, _("Subscription ended"), _("The subscription has ended already."), _("Nothing was charged or changed."), _("Subscribe again, if you want to.")),
    Problem("quote_outdated", 409, _("No longer what was shown"), _("By now it comes to more than what was shown before."), _("Nothing was charged or changed."), _("Look at what it comes to now, and confirm that.")),
    Problem("max_cost_exceeded", 402, _("X-Max-Cost exceeded"), _("The call could cost more than its own X-Max-Cost header allows."), NOTHING, _("Send less, or raise X-Max-Cost. /estimate tells the highest cost of a body.")),
    Problem("model_not_found", 404, _("Model not found"), _("There is no live model or version of that name, or it is not yours to call."), NOTHING, _("Look the name up in the catalogue, or with GET /v1/models.")),
    Problem("not_found", 404, _("Not found"), _("There is nothing at this address, or it is not yours."), NOTHING, _("Check the address and the id.")),
    Problem("not_offered", 404, _("Not offered"), _("The address belongs to a part of the Open Inference Protocol that is for whoever runs the server: loading models, tracing, logging, shared memory."), NOTHING, _("Publish models on this site's own pages, and send tensors in the request.")),
    Problem("method_not_allowed", 405, _("Method not allowed"), _("The address exists, but does not take this method."), NOTHING, _("Use a method that the Allow header names.")),
    Problem("idempotency_in_progress", 409, _("Still running"), _("The first request with this Idempotency-Key has not ended yet."), _("The first request is charged once, if it is answered. This one is not."), _("Wait as Retry-After says, and repeat the request: you get the first one's reply.")),
    Problem("key_limit_reached", 409, _("Too many keys"), _("The organization already holds as many live keys as it may."), NOTHING, _("Revoke a key that is no longer used.")),
    Problem("key_not_live", 409, _("Key no longer live"), _("The key was revoked or has expired, so it cannot be rotated."), _("Nothing was made."), _("Make a new key.")),
    Problem("body_too_large", 413, _("Body too large"), _("The request's body is larger than the site reads."), NOTHING, _("Send fewer or shorter examples in one call.")),
    Problem("body_too_slow", 408, _("Body too slow"), _("The request's body did not come in time."), NOTHING, _("Send it again, faster or smaller.")),
    Problem("body_incomplete", 400, _("Body incomplete"), _("The connection ended before the whole body had come."), NOTHING, _("Send it again.")),
    Problem("caller_left", 400, _("Caller left"), _("The connection ended before the call was answered: only the request log shows this."), NOTHING, _("Wait longer for the answer, or send X-Timeout-Ms: then the call ends with an answer that says so.")),
    Problem("request_malformed", 400, _("Malformed request"), _("The body is not JSON of the form that the address takes: the detail says where."), NOTHING, _("Correct the request. Unknown and repeated fields, NaN and Infinity are refused.")),
    Problem("header_invalid", 400, _("Invalid header"), _("A request header has a value that cannot be used."), NOTHING, _("Correct the header that the detail names.")),
    Problem("invalid_input", 422, _("Invalid input"), _("The JSON is sound, but the model does not take this input or these parameters."), NOTHING, _("See the model's page for what it takes.")),
    Problem("idempotency_key_reused", 422, _("Idempotency-Key reused"), _("This Idempotency-Key was used before with another body."), NOTHING, _("Use a fresh key for each different request.")),
    Problem("upload_invalid", 422, _("Upload not accepted"), _("What was sent to be published cannot be: the detail says why."), _("Nothing was kept."), _("Correct what the detail names and send it again.")),
    Problem("uploads_refused", 503, _("Uploads refused"), _("This site's kernel has no Landlock, so models of others are neither examined nor run here."), _("Nothing was kept."), _("Tell the operator of the site: Linux 5.13 or newer with Landlock switched on is needed.")),
    Problem("model_name_taken", 409, _("Name taken"), _("The organization already has a model of this name."), _("Nothing was made."), _("Choose another name, or publish a new version of that model.")),
    Problem("model_storage_exceeded", 409, _("No room left for models"), _("The organization's models would take more room than the site gives one."), _("Nothing was kept."), _("Retire versions that nobody calls, or ask the operator of the site for more room.")),
    Problem("too_many_waiting", 429, _("Too many versions waiting"), _("The organization has as many versions waiting to be examined as it may."), _("Nothing was kept."), _("Wait until some have been examined.")),
    Problem("version_state_wrong", 409, _("Not in this state"), _("The version's state does not allow what was asked: the detail says which state does."), _("Nothing was changed."), _("Look at the version's state and its report.")),
    Problem("price_invalid", 422, _("Invalid price"), _("The price cannot be set: the detail says why."), NOTHING, _("Correct the price.")),
    Problem("share_invalid", 422, _("Invalid share"), _("The provider’s share cannot be set: the detail says why."), NOTHING, _("Correct the fee or the moment.")),
    Problem("amount_malformed", 422, _("Malformed amount"), _("The text is no amount of money."), NOTHING, _('Send a plain decimal of at most nine decimals, such as "12.50".')),
    Problem("grant_conflict", 409, _("Reference already used"), _("The grant's reference belongs to another grant."), _("Nothing was granted."), _("Use a fresh reference for each grant.")),
    Problem("credit_pool_empty", 409, _("Free credit used up"), _("The site's pool of free credit has too little left."), _("Nothing was granted."), _("Ask the operator of the site for credit.")),
    Problem("payments_off", 409, _("No payments here"), _("This site collects no money, so nothing can be paid or charged."), NOTHING, _("Ask the operator of the site for credit.")),
    Problem("payments_frozen", 409, _("Payments frozen"), _("A payment of the account is disputed at its bank. Until that is settled, the account can neither pay nor be refunded."), NOTHING, _("Settle the dispute with your bank, or write to the operator of the site.")),
    Problem("top_up_out_of_range", 422, _("Top-up too small or too large"), _("The site takes top-ups within limits: GET /v1/balance names them."), NOTHING, _("Choose an amount within the limits.")),
    Problem("card_missing", 409, _("No such card"), _("The account has no such saved card, or none at all."), NOTHING, _("Top up once on the Billing page: that saves the card.")),
    Problem("card_refused", 402, _("Card refused"), _("The card's bank refused the payment, or wants its owner to be there."), NOTHING, _("Top up on the Billing page, with this card or another.")),
    Problem("refund_too_large", 409, _("Refund too large"), _("More was to be given back than is left of the payment, or of the credit that it bought."), _("Nothing was refunded."), _("Refund less. What calls have spent cannot be refunded.")),
    Problem("recharge_invalid", 422, _("Invalid auto-recharge"), _("The amounts of the auto-recharge do not fit together: the detail says which."), _("Nothing was changed."), _("Correct the amounts.")),
    Problem("onboarding_not_started", 409, _("Not set up for payouts"), _("The organization has no account at the payment provider yet, so nothing can be sent to it."), _("Nothing was changed."), _("Set up payouts on the page Revenue and payouts first.")),
    Problem("credit_line_invalid", 422, _("Invalid credit line"), _("The credit line cannot be set so: the detail says why."), _("Nothing was changed."), _("Correct the amount.")),
    Problem("invoice_not_open", 409, _("Invoice not owed"), _("The invoice is paid, void, or was never due."), _("Nothing was changed."), _("Look at the invoice's state.")),
    Problem("credit_note_invalid", 409, _("Invalid credit note"), _("The invoice cannot be corrected so: the detail says why."), _("Nothing was taken back."), _("Take back less, or another line.")),
    Problem("provider_unavailable", 503, _("Payment provider unavailable"), _("The payment provider did not answer in time. What was asked may have happened; the site finds out by itself."), _("Nothing is charged twice."), _("Look at the Billing page in a minute, before trying again.")),
    Problem("provider_refused", 409, _("Payment provider refused"), _("The payment provider refused what was asked."), NOTHING, _("Try again; if it happens again, write to the operator of the site.")),
    Problem("webhook_forged", 400, _("Webhook not signed"), _("The webhook's signature is wrong or more than 300 seconds old."), _("Nothing was changed."), _("Check STRIPE_WEBHOOK_SECRET, and the server's clock.")),
    Problem("period_not_over", 409, _("Period not over"), _("The billing period has not ended, or calls of it may still settle."), _("Nothing was billed."), _("Try again an hour after the period's end.")),
    Problem("key_expiry_in_past", 422, _("Expiry in the past"), _("A key's expiry must lie in the future."), NOTHING, _("Send a later time, in RFC 3339 with its offset.")),
    Problem("key_setting_invalid", 422, _("Invalid key setting"), _("No key can have this setting: the detail says which, and why."), _("Nothing was made."), _("Correct the setting that errors[].param names.")),
    Problem("rate_limited", 429, _("Rate limit reached"), _("Too many calls in the last minute for this key or organization."), NOTHING, _("Wait as Retry-After says. The RateLimit headers of every answer tell what is left.")),
    Problem("too_many_at_once", 429, _("Too many calls at once"), _("The organization has too many calls in flight."), NOTHING, _("Wait for some to end, and send fewer at a time.")),
    Problem("queue_full", 503, _("Queue full"), _("More calls wait for this model than the site takes."), NOTHING, _("Repeat after the time that Retry-After names.")),
    Problem("site_busy", 503, _("Site busy"), _("More requests wait for pages and the REST API than the site takes."), NOTHING, _("Repeat after the time that Retry-After names.")),
    Problem("engine_stopping", 503, _("Restarting"), _("The site is restarting."), NOTHING, _("Repeat in a few seconds.")),
    Problem("worker_lost", 503, _("Worker lost"), _("The process that ran the model ended twice during this call."), _("Nothing was charged."), _("Repeat the call. If it happens again with the same input, tell the model's owner.")),
    Problem("model_failed", 503, _("Model failed"), _("The model ended with an error on this input."), _("Nothing was charged."), _("Check the input against the model's page; if it is right, tell the model's owner.")),
    Problem("model_load_failed", 503, _("Model not available"), _("The model could not be loaded."), NOTHING, _("Repeat later, or tell the model's owner.")),
    Problem("storage_unavailable", 503, _("Storage unavailable"), _("The site cannot write to its database, so it cannot record the call."), _("Nothing was charged: what cannot be recorded is not billed."), _("Repeat after the time that Retry-After names. The site recovers by itself.")),
    Problem("control_data_stale", 503, _("Database unavailable"), _("The site cannot read its database, so it cannot tell which keys are valid."), NOTHING, _("Repeat after the time that Retry-After names.")),
    Problem("price_missing", 503, _("No price"), _("The model has no price that holds now."), NOTHING, _("Tell the model's owner.")),
    Problem("already_ended", 409, _("Already ended"), _("What should be cancelled has succeeded, failed or been completed."), _("Its result stays, and what it cost."), _("Read its result.")),
    Problem("storage_quota_exceeded", 413, _("Storage quota exceeded"), _("The inputs and outputs kept for the organization would take more room than it has."), NOTHING, _("Wait for predictions to run, or for old ones to be deleted; the detail says how much is kept.")),
    Problem("prediction_expired", 504, _("Prediction expired"), _("The site had no room to run it in all the time that it may wait."), _("Nothing was charged."), _("Send it again, at a quieter time or as a live call.")),
    Problem("output_too_large", 422, _("Output too large"), _("The model's answer is larger than what is kept of an asynchronous prediction."), _("Nothing was charged."), _("Send fewer examples in one prediction, or make a live call.")),
    Problem("batch_invalid", 422, _("Invalid batch file"), _("Lines of the file cannot be run: errors[] names each, up to 50."), NOTHING, _("Correct the lines, and send the whole file again.")),
    Problem("webhook_invalid", 422, _("Invalid webhook"), _("Nobody can be told at this address: the detail says why."), _("Nothing was changed."), _("Give an HTTPS address that everybody can reach; in a request, the id or address of an endpoint that you registered.")),
    Problem("webhook_limit_reached", 409, _("Too many webhook endpoints"), _("The organization already has as many endpoints as it may."), _("Nothing was made."), _("Delete an endpoint that is no longer used.")),
    Problem("deadline_exceeded", 504, _("Deadline exceeded"), _("The call did not end within its time limit."), _("Nothing was charged."), _("Send less at once, or raise X-Timeout-Ms.")),
    Problem("internal_error", 500, _("Internal error"), _("Something went wrong on our side, and is in the site's log under the request id."), _("Nothing was charged."), _("Repeat the call; if it fails again, send the operator the request id.")),
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
        # Finer than the problem's code where the error has a word for it: "wrong_shape", "too_many_characters".
        fields["errors"] = [{"param": param, "code": getattr(error, "reason", problem.code), "detail": detail}]
    if faults := getattr(error, "faults", None):
        fields["errors"] = [{"param": place, "code": problem.code, "detail": sentence} for place, sentence in faults]
    return fields | _limit_facts(error)


def _detail(error: Exception, problem: Problem) -> str:
    """Return the sentence for the caller: the error's own where it was written for one."""
    if isinstance(error, BudgetExceeded):
        name = _budget_words(error.subject)
        left, asked = to_decimal_string(error.left_nanos), to_decimal_string(error.asked_nanos)
        return f"{name} has {left} left; this call could cost {asked}."
    if isinstance(error, QuotaExceeded):
        return f"The plan includes {error.limit} units this month, of which {error.used} are used; this call takes {error.asked}."
    if isinstance(error, FeeUnpaid):
        return f"The fee is {to_decimal_string(error.fee_nanos)}; the balance has {to_decimal_string(error.left_nanos)} left."
    if isinstance(error, StorageUnavailable):  # Its text is the database's, for the log only.
        return problem.happened
    return str(getattr(error, "detail", "") or problem.happened)


def _budget_words(subject: str) -> str:
    """Return what a budget is called in a sentence."""
    name = name_of(subject)
    if name == BALANCE:
        return "The account's balance"
    interval = {"day": "daily ", "month": "monthly ", "total": "total "}[name.interval]
    return {"organization": f"The organization's {interval}cap", "key": f"The key's {interval}cap"}.get(
        name.holder, f"The budget {subject}"
    )


def _limit_facts(error: Exception) -> dict[str, Any]:
    """Return what 402 and 429 say of the limit: its name, size, use, reset, and where to raise it."""
    if isinstance(error, BudgetExceeded):
        name = name_of(error.subject)
        return {
            "policy": name.policy if name.holder else error.subject,
            "limit": to_decimal_string(error.limit_nanos),
            "used": to_decimal_string(error.spent_nanos),
            "asked": to_decimal_string(error.asked_nanos),
            "resets_at": render_moment(error.resets_at) if error.resets_at else None,
            "raise_at": f"{settings.SITE_URL}/{'billing' if name == BALANCE else 'budgets'}/",
        }
    if isinstance(error, QuotaExceeded):
        return {
            "policy": "plan_quota",
            "limit": error.limit,
            "used": error.used,
            "asked": error.asked,
            "resets_at": render_moment(error.resets_at) if error.resets_at else None,
            "raise_at": f"{settings.SITE_URL}/billing/plans/",
        }
    if isinstance(error, RateLimited) and error.policy == "plan":
        return {"policy": "plan", "limit": error.limit, "window_s": error.window_s, "raise_at": f"{settings.SITE_URL}/billing/plans/"}
    if isinstance(error, RateLimited):
        return {
            "policy": error.policy,
            "limit": error.limit,
            "used": error.limit,
            "window_s": error.window_s,
            "resets_in_s": math.ceil(error.retry_after_s),  # When the next call is let in; the whole limit takes the window.
            "raise_at": f"{settings.SITE_URL}/keys/",
        }
    if isinstance(error, MaxCostExceeded):  # The caller's own limit: nothing is used up, and its header raises it.
        return {"policy": "x_max_cost", "limit": error.limit, "asked": error.asked}
    return {}
