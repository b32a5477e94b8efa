"""Everything the marketplace refuses, named for what happened. `problems.py` turns them into HTTP."""

from collections.abc import Sequence
from datetime import datetime
from typing import ClassVar


class MarketplaceError(Exception):
    """Base of the marketplace's refusals. Unless it says otherwise, nothing was run or charged."""

    code: ClassVar[str]
    param: str | None = None

    @property
    def detail(self) -> str:
        """What happened, for the caller: no internal names, no secrets."""
        return str(self.args[0]) if self.args else (self.__doc__ or "").splitlines()[0]


class KeyMissing(MarketplaceError):
    """No API key was sent. Send it as `Authorization: Bearer <key>`."""

    code = "key_missing"


class KeyMalformed(MarketplaceError):
    """What was sent is not a Farebox API key."""

    code = "key_malformed"


class KeyMistyped(MarketplaceError):
    """The API key's checksum is wrong: a character was lost or changed on the way."""

    code = "key_mistyped"


class KeyUnknown(MarketplaceError):
    """No such API key exists here."""

    code = "key_unknown"


class KeyRevoked(MarketplaceError):
    """This API key has been revoked."""

    code = "key_revoked"


class KeyExpired(MarketplaceError):
    """This API key has expired."""

    code = "key_expired"


class ScopeMissing(MarketplaceError):
    """This API key may not do that."""

    code = "scope_missing"


class AddressNotAllowed(MarketplaceError):
    """This API key may not be used from your address."""

    code = "address_not_allowed"


class OrganizationSuspended(MarketplaceError):
    """The organization is suspended."""

    code = "organization_suspended"


class AccountUnderReview(MarketplaceError):
    """The books of the account do not balance, so it is not charged. Nothing was run."""

    code = "account_under_review"
    retry_after_s: ClassVar[float] = 600.0


class ModelNotFound(MarketplaceError):
    """There is no such model, or it is not yours to call."""

    code = "model_not_found"


class NotFound(MarketplaceError):
    """There is nothing here, or it is not yours."""

    code = "not_found"


class NotOffered(MarketplaceError):
    """This is for whoever runs the server. Loading, tracing, logging and shared memory are not offered to callers."""

    code = "not_offered"


class MethodNotAllowed(MarketplaceError):
    """This address does not take that method."""

    code = "method_not_allowed"

    def __init__(self, *, allow: str) -> None:
        super().__init__(f"This address takes {allow}.")
        self.allow = allow


class MetricsTokenInvalid(MarketplaceError):
    """Metrics are for the operator, who sends METRICS_TOKEN as `Authorization: Bearer <token>`."""

    code = "metrics_token_invalid"


class BodyTooLarge(MarketplaceError):
    """The request's body is larger than this site reads."""

    code = "body_too_large"


class CallerLeft(MarketplaceError):
    """The client hung up before its call was answered. It was taken out of the queue; nothing was charged."""

    code = "caller_left"


class BodyIncomplete(MarketplaceError):
    """The connection ended before the whole body came."""

    code = "body_incomplete"


class BodyTooSlow(MarketplaceError):
    """The request's body did not come in time."""

    code = "body_too_slow"


class SiteBusy(MarketplaceError):
    """More requests wait for pages and the REST API than the site takes."""

    code = "site_busy"


class RequestMalformed(MarketplaceError):
    """The request is not JSON of the form that this address takes."""

    code = "request_malformed"

    def __init__(self, detail: str, *, param: str | None = None) -> None:
        super().__init__(detail)
        self.param = param


class HeaderInvalid(RequestMalformed):
    """A request header's value cannot be used."""

    code = "header_invalid"


class RateLimited(MarketplaceError):
    """Too many calls in too short a time."""

    code = "rate_limited"

    def __init__(self, *, policy: str, limit: int, window_s: int, retry_after_s: float) -> None:
        super().__init__(f"The {policy}'s limit of {limit} calls per {window_s} s is used up.")
        self.policy, self.limit, self.window_s, self.retry_after_s = policy, limit, window_s, retry_after_s


class TooManyAtOnce(MarketplaceError):
    """The organization has too many calls in flight."""

    code = "too_many_at_once"

    def __init__(self, *, limit: int) -> None:
        super().__init__(f"The organization already has {limit} calls in flight.")
        self.limit, self.retry_after_s = limit, 1.0


class MaxCostExceeded(MarketplaceError):
    """The call could cost more than its X-Max-Cost allows."""

    code = "max_cost_exceeded"

    def __init__(self, *, limit: str, asked: str) -> None:
        super().__init__(f"The call could cost {asked}; its X-Max-Cost is {limit}.")
        self.limit, self.asked = limit, asked


class IdempotencyKeyReused(MarketplaceError):
    """This Idempotency-Key was used with another body."""

    code = "idempotency_key_reused"


class IdempotencyInProgress(MarketplaceError):
    """The first request with this Idempotency-Key is still running."""

    code = "idempotency_in_progress"
    retry_after_s = 1.0


class ControlDataStale(MarketplaceError):
    """The site cannot read its own database, so it cannot tell who may call."""

    code = "control_data_stale"
    retry_after_s = 2.0


class PriceMissing(MarketplaceError):
    """The model has no price now, so it cannot be sold."""

    code = "price_missing"
    retry_after_s = 60.0


class KeyLimitReached(MarketplaceError):
    """The organization already holds as many live keys as it may."""

    code = "key_limit_reached"

    def __init__(self, *, limit: int) -> None:
        super().__init__(f"The organization already holds {limit} live keys. Revoke one first.")
        self.limit = limit


class KeyNotLive(MarketplaceError):
    """The key was revoked or has expired, so there is nothing to rotate. Nothing was made."""

    code = "key_not_live"


class KeySettingInvalid(MarketplaceError):
    """No key can have this setting. Nothing was made."""

    code = "key_setting_invalid"

    def __init__(self, detail: str, *, param: str) -> None:
        super().__init__(detail)
        self.param = param


class KeyExpiryInPast(MarketplaceError):
    """A key's expiry must lie in the future."""

    code = "key_expiry_in_past"

    def __init__(self, *, expires_at: datetime) -> None:
        super().__init__(f"{expires_at.isoformat()} has passed.")
        self.param = "expires_at"


class AlreadyEnded(MarketplaceError):
    """What should be cancelled has ended. Its result stays."""

    code = "already_ended"

    def __init__(self, *, status: str) -> None:
        super().__init__(f"It has {status} already." if status != "completed" else "It is completed already.")


class StorageQuotaExceeded(MarketplaceError):
    """The inputs and outputs kept for the organization would take more room than it has. Nothing was kept."""

    code = "storage_quota_exceeded"

    def __init__(self, *, limit: int, used: int) -> None:
        super().__init__(f"The organization may keep {limit} bytes of inputs and outputs, and keeps {used}.")


class PredictionExpired(MarketplaceError):
    """There was no room to run it in all the time that it may wait."""

    code = "prediction_expired"


class OutputTooLarge(MarketplaceError):
    """The model's answer is larger than what is kept of an asynchronous prediction."""

    code = "output_too_large"


class BatchInvalid(MarketplaceError):
    """Lines of the batch's file cannot be run. Nothing was kept."""

    code = "batch_invalid"

    def __init__(self, detail: str, *, faults: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(detail)
        self.faults = faults  # ("line 3", what is wrong), the first of them.


class WebhookInvalid(MarketplaceError):
    """Nobody can be told at this address. Nothing was changed."""

    code = "webhook_invalid"

    def __init__(self, detail: str, *, param: str = "url") -> None:
        super().__init__(detail)
        self.param = param


class WebhookLimitReached(MarketplaceError):
    """The organization already has as many webhook endpoints as it may."""

    code = "webhook_limit_reached"

    def __init__(self, *, limit: int) -> None:
        super().__init__(f"The organization already has {limit} webhook endpoints. Delete one first.")
        self.limit = limit


class UploadInvalid(MarketplaceError):
    """What was sent to be published cannot be. Nothing was kept."""

    code = "upload_invalid"

    def __init__(self, detail: str, *, param: str | None = None) -> None:
        super().__init__(detail)
        self.param = param


class UploadsRefused(MarketplaceError):
    """This site's kernel has no Landlock, so models of others are neither examined nor run here."""

    code = "uploads_refused"


class ModelNameTaken(MarketplaceError):
    """The organization already has a model of this name. Nothing was made."""

    code = "model_name_taken"
    param = "name"


class ModelStorageExceeded(MarketplaceError):
    """The organization's models would take more room than it has. Nothing was kept."""

    code = "model_storage_exceeded"

    def __init__(self, *, limit_bytes: int, used_bytes: int, asked_bytes: int) -> None:
        used, limit = used_bytes // 2**20, limit_bytes // 2**20
        super().__init__(f"The organization's models take {used} MB of {limit} MB; these files have {-(-asked_bytes // 2**20)} MB.")
        self.limit_bytes, self.used_bytes, self.asked_bytes = limit_bytes, used_bytes, asked_bytes


class TooManyWaiting(MarketplaceError):
    """The organization has as many versions waiting to be examined as it may. Nothing was kept."""

    code = "too_many_waiting"
    retry_after_s = 60.0


class VersionStateWrong(MarketplaceError):
    """The version's state does not allow this. Nothing was changed."""

    code = "version_state_wrong"

    def __init__(self, *, state: str, wanted: str) -> None:
        super().__init__(f"The version is {state}; it must be {wanted}.")
        self.state, self.wanted = state, wanted
