"""Payments: top-ups, refunds, disputes, and the machinery between us and the provider. One deed: give a payment back."""

from typing import Any
from uuid import UUID

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from unfold.decorators import action, display

from billing.ids import uuid7
from billing.models import Dispute, OutboxRow, PaymentRefund, StripeEvent, TopUp
from billing.money import NANOS_PER_CENT, Nanos, to_decimal_string
from billing.repaying import refundable_cents
from marketplace.admin.deeds import AmountBackForm, bind, find_target, operator_of, run_deed
from marketplace.admin.facts import FactAdmin, LongFactAdmin, NamedColumns, show_money
from marketplace.payments import refund_payment


class RefundForm(AmountBackForm):
    """How much goes back, and why."""

    field_order = ("amount", "reason")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["amount"].help_text = "In the payment's currency, such as 25 or 12.50."


def _payment_of(row: TopUp | PaymentRefund | Dispute) -> TopUp:
    return row if isinstance(row, TopUp) else row.top_up


class _Cents:
    """A column of whole cents."""

    @display(description="Amount", ordering="amount_cents")
    def amount(self, row: Any) -> str:
        """The amount."""
        return show_money(row.amount_cents * NANOS_PER_CENT, _payment_of(row).currency)


@admin.register(TopUp)
class TopUpAdmin(NamedColumns, _Cents, LongFactAdmin):
    """All top-ups, the newest first."""

    list_display = ("created_at", "account", "amount", "state", "source", "by", "settled_at")
    list_filter = ("status", "source")
    list_select_related = ("account",)
    search_fields = ("account__name", "payment_id", "checkout_id", "by")
    ordering = ("-created_at",)
    fields = (
        "shown_pk",
        "account",
        "amount",
        "currency",
        "state",
        "source",
        "by",
        "left",
        "failure",
        "checkout_id",
        "payment_id",
        "card_id",
        "created_at",
        "settled_at",
    )
    readonly_fields = ("shown_pk", "amount", "state", "left")
    actions_detail = ("give_back",)

    @display(description="State", label={"paid": "success", "failed": "danger", "expired": "warning", "processing": "info"})
    def state(self, top_up: TopUp) -> str:
        """How far it is."""
        return top_up.status

    @display(description="Can be refunded")
    def left(self, top_up: TopUp) -> str:
        """What was not given back yet."""
        return show_money(refundable_cents(top_up) * NANOS_PER_CENT, top_up.currency)

    @action(description="Refund", url_path="refund", permissions=["deed"], icon="undo")
    def give_back(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Give the payment back to its card."""
        top_up: TopUp = find_target(self, request, object_id)

        def do(fields: Any) -> None:
            reference: UUID = fields["reference"]
            refund_payment(top_up, amount_cents=fields["amount"], reason=fields["reason"], reference=reference, by=operator_of(request))

        left = refundable_cents(top_up) * NANOS_PER_CENT
        initial = {"reference": str(uuid7()), "amount": to_decimal_string(Nanos(left), places=2)}
        warning = f"Up to {show_money(left, top_up.currency)} goes back to the card. The credit it bought is taken at once; credit that calls have spent cannot be refunded."
        form = bind(RefundForm, request, initial=initial)
        return run_deed(self, request, title=f"Refund a payment of {top_up.account}", warning=warning, form=form, do=do, target=top_up)


@admin.register(PaymentRefund)
class PaymentRefundAdmin(_Cents, FactAdmin):
    """Payments given back."""

    list_display = ("created_at", "top_up", "amount", "status", "reason", "by")
    list_filter = ("status",)
    list_select_related = ("top_up__account",)
    search_fields = ("top_up__account__name", "refund_id", "reason")
    ordering = ("-created_at",)
    fields = ("top_up", "amount", "status", "reason", "by", "refund_id", "failure", "created_at")
    readonly_fields = ("amount",)


@admin.register(Dispute)
class DisputeAdmin(_Cents, FactAdmin):
    """Payments that their banks took, or may take, back. Answer them at the provider; unfreeze on the organization's page."""

    list_display = ("created_at", "top_up", "amount", "status", "reason", "closed_at")
    list_filter = ("status",)
    list_select_related = ("top_up__account",)
    search_fields = ("dispute_id", "top_up__account__name")
    ordering = ("-created_at",)
    fields = ("dispute_id", "top_up", "amount", "status", "reason", "created_at", "closed_at", "refunded_calls", "refunded_at")
    readonly_fields = ("amount", "refunded_calls")

    @display(description="Calls refunded")
    def refunded_calls(self, dispute: Dispute) -> str:
        """What the calls cost that a lost one had paid for."""
        return show_money(dispute.refunded_nanos, dispute.top_up.currency)


@admin.register(OutboxRow)
class OutboxRowAdmin(NamedColumns, LongFactAdmin):
    """What the provider was asked, or is yet to be."""

    list_display = ("created_at", "kind", "account", "state", "attempts", "due_at", "last_error")
    list_filter = ("state", "kind")
    list_select_related = ("account",)
    search_fields = ("account__name", "subject", "kind")
    ordering = ("-created_at",)
    fields = (
        "shown_pk",
        "account",
        "kind",
        "subject",
        "parameters",
        "state",
        "attempts",
        "generation",
        "needs_lookup",
        "created_at",
        "first_sent_at",
        "due_at",
        "finished_at",
        "last_error",
    )
    readonly_fields = ("shown_pk",)


@admin.register(StripeEvent)
class StripeEventAdmin(LongFactAdmin):
    """The provider's webhooks as they came, and what became of each."""

    list_display = ("occurred_at", "type", "object_id", "outcome", "received_at")
    list_filter = ("work__outcome",)
    list_select_related = ("work",)
    search_fields = ("event_id", "object_id", "type")
    ordering = ("-occurred_at",)
    fields = ("event_id", "type", "object_id", "livemode", "occurred_at", "received_at", "outcome", "attempts", "last_error")
    readonly_fields = ("outcome", "attempts", "last_error")

    @display(description="Outcome", label={"applied": "success", "waiting": "warning", "ignored": "info"})
    def outcome(self, event: StripeEvent) -> str:
        """What became of it."""
        return event.work.outcome

    @display(description="Attempts")
    def attempts(self, event: StripeEvent) -> int:
        """How often it was tried."""
        return event.work.attempts

    @display(description="Last error")
    def last_error(self, event: StripeEvent) -> str:
        """Why it could not be applied, if so."""
        return event.work.last_error or "–"
