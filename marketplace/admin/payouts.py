"""Providers of models: who is paid, what was sent to them and what came back. Deeds: pay now, hold, release."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from unfold.admin import TabularInline
from unfold.decorators import action, display

from billing.models import BankPayout, Payout, PayoutAccount, PayoutCheck, PayoutReversal
from billing.money import NANOS_PER_CENT
from billing.payable import payable_of
from billing.payouts import find_obstacle
from marketplace.admin.deeds import ConfirmForm, ReasonForm, bind, find_target, operator_of, run_deed
from marketplace.admin.facts import FactAdmin, LongFactAdmin, NamedColumns
from marketplace.amounts import money
from marketplace.models import Organization
from marketplace.payouts import hold_payouts, pay_now, release_payouts


class _Sent:
    """A column of whole cents in the row's own currency."""

    @display(description="Amount", ordering="amount_cents")
    def amount(self, row: Any) -> str:
        """The amount."""
        return money(row.amount_cents * NANOS_PER_CENT, row.currency)


@admin.register(PayoutAccount)
class PayoutAccountAdmin(FactAdmin):
    """Providers at the payment provider."""

    list_display = ("account", "state", "country", "payable", "due", "refreshed_at")
    list_filter = ("transfers_enabled", ("held_at", admin.EmptyFieldListFilter))
    list_select_related = ("account",)
    search_fields = ("account__name", "connected_id")
    fields = (
        "account",
        "state",
        "balance",
        "payable",
        "connected_id",
        "country",
        "transfers_enabled",
        "payouts_enabled",
        "details_submitted",
        "due",
        "disabled_reason",
        "failure",
        "held_at",
        "suspended_at",
        "refreshed_at",
        "created_at",
    )
    readonly_fields = ("state", "balance", "payable", "due")
    actions_detail = ("pay_now", "hold", "release")

    @display(description="State", label={"can be paid": "success", "suspended": "danger", "held": "danger", "not onboarded": "warning"})
    def state(self, payee: PayoutAccount) -> str:
        """Whether it can be paid."""
        return find_obstacle(payee).replace("_", " ") or "can be paid"

    @display(description="Owed")
    def balance(self, payee: PayoutAccount) -> str:
        """What it is owed, by currency; below zero, what it owes."""
        return ", ".join(money(one.balance, one.currency) for one in payable_of(payee.account, now=timezone.now())) or "–"

    @display(description="Can be sent now")
    def payable(self, payee: PayoutAccount) -> str:
        """What of it is neither on hold nor in reserve, by currency."""
        return ", ".join(money(one.nanos, one.currency) for one in payable_of(payee.account, now=timezone.now())) or "–"

    @display(description="Asked of its owner")
    def due(self, payee: PayoutAccount) -> str:
        """What Stripe still wants."""
        return ", ".join(payee.requirements_due) or "nothing"

    @action(description="Pay now", url_path="pay-now", permissions=["deed"], icon="send_money")
    def pay_now(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Send what can be sent, without waiting for the next run."""
        payee: PayoutAccount = find_target(self, request, object_id)
        organization: Organization = payee.account.organization

        def do(_: Any) -> None:
            pay_now(organization, by=operator_of(request))

        warning = (
            f"{self.payable(payee)} can be sent now. It is asked of Stripe at once, and shown under Payouts. Twice sends nothing twice."
        )
        form = bind(ConfirmForm, request)
        return run_deed(self, request, title=f"Pay {organization}", warning=warning, form=form, do=do, target=payee)

    @action(description="Hold payouts", url_path="hold", permissions=["deed"], icon="front_hand")
    def hold(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Have nothing sent."""
        payee: PayoutAccount = find_target(self, request, object_id)
        organization: Organization = payee.account.organization

        def do(fields: Any) -> None:
            hold_payouts(organization, reason=fields["reason"], by=operator_of(request))

        warning = "It is sent nothing until you release it. Its shares accrue all the same, and its page says that you have stopped it."
        form = bind(ReasonForm, request)
        return run_deed(self, request, title=f"Hold payouts of {organization}", warning=warning, form=form, do=do, target=payee)

    @action(description="Release payouts", url_path="release", permissions=["deed"], icon="undo")
    def release(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Let it be paid again."""
        payee: PayoutAccount = find_target(self, request, object_id)
        organization: Organization = payee.account.organization

        def do(_: Any) -> None:
            release_payouts(organization, by=operator_of(request))

        warning = "The next run sends it what can be sent."
        form = bind(ConfirmForm, request)
        return run_deed(self, request, title=f"Release payouts of {organization}", warning=warning, form=form, do=do, target=payee)


class ReversalInline(TabularInline):
    """What came back of a payout."""

    model = PayoutReversal
    extra = 0
    can_delete = False
    fields = ("created_at", "came_back", "status", "reason", "by", "failure", "reversal_id")
    readonly_fields = fields

    @display(description="Amount")
    def came_back(self, row: PayoutReversal) -> str:
        """The amount."""
        return money(row.amount_cents * NANOS_PER_CENT, row.payout.currency)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002 (Django's signature)
        """No."""
        return False


@admin.register(Payout)
class PayoutAdmin(NamedColumns, _Sent, LongFactAdmin):
    """What was sent to providers, the newest first."""

    list_display = ("created_at", "account", "amount", "state", "came_back", "by", "failure")
    list_filter = ("status", "currency")
    list_select_related = ("account",)
    search_fields = ("account__name", "transfer_id", "connected_id")
    ordering = ("-created_at",)
    fields = (
        "shown_pk",
        "account",
        "amount",
        "state",
        "came_back",
        "connected_id",
        "transfer_id",
        "by",
        "failure",
        "created_at",
        "settled_at",
    )
    readonly_fields = ("shown_pk", "amount", "state", "came_back")
    inlines = (ReversalInline,)

    @display(description="State", label={"paid": "success", "failed": "danger", "waiting": "info"})
    def state(self, payout: Payout) -> str:
        """How far it is."""
        return payout.status

    @display(description="Came back")
    def came_back(self, payout: Payout) -> str:
        """What was reversed."""
        return money(payout.came_back_nanos, payout.currency) if payout.came_back_nanos else "–"


@admin.register(BankPayout)
class BankPayoutAdmin(_Sent, LongFactAdmin):
    """What of it Stripe sent on to the providers' banks."""

    list_display = ("arrives_at", "account", "amount", "status", "failure")
    list_filter = ("status",)
    list_select_related = ("account",)
    search_fields = ("account__name", "payout_id")
    ordering = ("-created_at",)
    fields = ("payout_id", "account", "amount", "status", "failure", "arrives_at", "created_at")
    readonly_fields = ("amount",)


@admin.register(PayoutCheck)
class PayoutCheckAdmin(FactAdmin):
    """Each day's comparison with Stripe's own list of transfers."""

    list_display = ("day", "transfers", "differences", "first", "finished_at")
    ordering = ("-day",)
    fields = ("day", "transfers", "differences", "first", "finished_at")
