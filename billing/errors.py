"""Everything billing refuses, named for what happened. Unless it says otherwise, nothing changed."""

from datetime import datetime
from typing import ClassVar, Final
from uuid import UUID


class BillingError(Exception):
    """Base of billing's refusals. `code` is stable; the facts are attributes."""

    code: ClassVar[str]


class AmountMalformed(BillingError):
    """The text is no amount of money: a plain decimal, not negative, of at most nine decimals."""

    code = "amount_malformed"

    def __init__(self, *, text: str) -> None:
        super().__init__(f"{text!r} is not an amount of money.")
        self.text = text


class PriceInvalid(BillingError):
    """The price cannot be set. No price was changed."""

    code = "price_invalid"


class ShareInvalid(BillingError):
    """The provider's share cannot be set: the fee or the moment cannot be. Nothing was changed."""

    code = "share_invalid"


class BudgetExceeded(BillingError):
    """The call could cost more than the budget has left. Nothing was held on any budget."""

    code = "budget_exceeded"

    def __init__(
        self,
        *,
        subject: str,
        limit_nanos: int,
        spent_nanos: int,
        left_nanos: int,
        asked_nanos: int,
        resets_at: datetime | None,
    ) -> None:
        super().__init__(f"The call asks {asked_nanos} nanos of budget {subject!r}, which has {left_nanos} left.")
        self.subject = subject
        self.limit_nanos = limit_nanos
        self.spent_nanos = spent_nanos  # Settled; what other calls hold is in neither `spent` nor `left`.
        self.left_nanos = left_nanos
        self.asked_nanos = asked_nanos
        self.resets_at = resets_at  # None: only more credit helps.


class QuotaExceeded(BillingError):
    """The plan's hard quota has too few units left. Nothing was held or run."""

    code = "quota_exceeded"

    def __init__(self, *, limit: int, used: int, asked: int, resets_at: datetime | None) -> None:
        super().__init__(f"The call asks {asked} units of a quota of {limit}, of which {used} are used.")
        self.limit, self.used, self.asked = limit, used, asked  # Used: settled; running calls hold more.
        self.resets_at = resets_at


class PlanInvalid(BillingError):
    """The plan cannot be made so. Nothing was made."""

    code = "plan_invalid"

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class PlanNotOffered(BillingError):
    """The plan takes nobody new, or is of another currency. Nothing was changed."""

    code = "plan_not_offered"


class AlreadySubscribed(BillingError):
    """The account has this plan, or another one of the same scope where it was to begin one. Nothing was changed."""

    code = "already_subscribed"


class SubscriptionEnded(BillingError):
    """The subscription has ended. Nothing was changed."""

    code = "subscription_ended"


class QuoteOutdated(BillingError):
    """What it comes to is more than what was shown. Nothing was changed."""

    code = "quote_outdated"


class FeeUnpaid(BillingError):
    """The account's balance has too little left for a plan's fee. Nothing was changed."""

    code = "fee_unpaid"

    def __init__(self, *, fee_nanos: int, left_nanos: int) -> None:
        super().__init__(f"The fee is {fee_nanos} nanos; the balance has {left_nanos} left.")
        self.fee_nanos, self.left_nanos = fee_nanos, left_nanos


class StorageUnavailable(BillingError):
    """The database cannot be written now: locked, full or away. Nothing was charged."""

    code = "storage_unavailable"
    retry_after_s: ClassVar[float] = 2.0


class ProcessFenced(StorageUnavailable):
    """This process was taken for dead and its leases were given back, so it may not charge for the call."""


class CommitInDoubt(StorageUnavailable):
    """Whether the write happened cannot be known now. If it did, its charges are refunded before this process writes again."""

    def __init__(self, *, process_id: UUID) -> None:
        super().__init__(f"Whether the last commit of the process {process_id} happened cannot be read.")
        self.process_id = process_id  # Under which identity it was written.


class CreditPoolEmpty(BillingError):
    """The pool of free credit has too little left. Nothing was granted."""

    code = "credit_pool_empty"

    def __init__(self, *, pool: str, left_nanos: int, asked_nanos: int) -> None:
        super().__init__(f"The pool {pool!r} has {left_nanos} nanos left of the {asked_nanos} asked.")
        self.pool, self.left_nanos, self.asked_nanos = pool, left_nanos, asked_nanos


class GrantConflict(BillingError):
    """The reference was used for another account or amount. Nothing was granted."""

    code = "grant_conflict"

    def __init__(self, *, reference: str) -> None:
        super().__init__(f"The reference {reference!r} belongs to another grant.")
        self.reference = reference


class PeriodNotOver(BillingError):
    """The period has not ended, or ended so lately that calls of it may still settle. It was not closed."""

    code = "period_not_over"

    def __init__(self, *, ends_at: datetime) -> None:
        super().__init__(f"The period ends at {ends_at.isoformat()}.")
        self.ends_at = ends_at


class PaymentsOff(BillingError):
    """This site collects no money: no provider is configured."""

    code = "payments_off"


class PaymentsFrozen(BillingError):
    """A payment of the account is disputed, so it may not pay, be charged or be refunded until that is settled."""

    code = "payments_frozen"


class TopUpOutOfRange(BillingError):
    """A top-up may not be so small or so large. Nothing was asked of anybody."""

    code = "top_up_out_of_range"

    def __init__(self, *, amount_cents: int, minimum_cents: int, maximum_cents: int) -> None:
        super().__init__(f"A top-up of {amount_cents} cents is not within {minimum_cents}..{maximum_cents}.")
        self.amount_cents, self.minimum_cents, self.maximum_cents = amount_cents, minimum_cents, maximum_cents


class CardMissing(BillingError):
    """The account has no such saved card."""

    code = "card_missing"


class RefundTooLarge(BillingError):
    """More was to be given back than is left of the payment, or of the credit that it bought. Nothing was refunded."""

    code = "refund_too_large"

    def __init__(self, *, asked_cents: int, left_cents: int) -> None:
        super().__init__(f"{asked_cents} cents were to be refunded; {left_cents} can be.")
        self.asked_cents, self.left_cents = asked_cents, left_cents


class RechargeInvalid(BillingError):
    """Auto-recharge cannot be set so. It was not changed."""

    code = "recharge_invalid"


class OnboardingNotStarted(BillingError):
    """The provider of models has no account at the payment provider yet. Nothing was changed."""

    code = "onboarding_not_started"


class CreditLineInvalid(BillingError):
    """The credit line cannot be set so. It was not changed."""

    code = "credit_line_invalid"


class InvoiceNotOpen(BillingError):
    """The invoice is not owed. Nothing was changed."""

    code = "invoice_not_open"


class CreditNoteInvalid(BillingError):
    """The invoice cannot be corrected so. Nothing was taken back."""

    code = "credit_note_invalid"


class ProviderUnavailable(BillingError):
    """The payment provider did not answer, or with an error of its own: what was asked may have happened. It is found out later."""

    code = "provider_unavailable"
    retry_after_s: ClassVar[float] = 5.0

    def __init__(self, said: str = "", *, key_is_spent: bool = False) -> None:
        super().__init__(said)
        self.key_is_spent = key_is_spent  # The same idempotency key would get the same error again.


# The reason of a refusal where what was asked for is not there, or not any more.
GONE: Final = "resource_missing"


class ProviderRefused(BillingError):
    """The payment provider refused: nothing happened there."""

    code = "provider_refused"

    def __init__(self, *, reason: str, said: str = "") -> None:
        super().__init__(f"{reason}: {said}" if said else reason)
        self.reason = reason


class CardRefused(ProviderRefused):
    """The card's bank refused the payment, or wants its owner to be there. Nothing was charged."""

    code = "card_refused"

    def __init__(self, *, reason: str, payment: str = "") -> None:
        super().__init__(reason=reason)
        self.payment = payment


class WebhookForged(BillingError):
    """The webhook's signature is wrong or too old, or the body is no event. It was not kept."""

    code = "webhook_forged"
