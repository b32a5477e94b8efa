"""The money: facts and balances to read, and two deeds, credit (on the organization) and refunds."""

from datetime import datetime
from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from unfold.admin import TabularInline
from unfold.decorators import action, display

from billing.models import (
    Account,
    Budget,
    CreditGrant,
    GatewayProcess,
    Lease,
    LedgerEntry,
    LedgerTransaction,
    Price,
    UsageEvent,
    UsageRefund,
    UsageRollup,
)
from billing.money import to_decimal_string
from billing.periods import EPOCH
from billing.prices import terms_of
from marketplace.admin.deeds import ReasonForm, bind, find_target, operator_of, run_deed
from marketplace.admin.facts import FactAdmin, LongFactAdmin, ModeFilter, NamedColumns, show_age, show_money, show_of_budget
from marketplace.amounts import price_words
from marketplace.credits import refund_call


class _Charge:
    """A column of money."""

    @display(description="Charge", ordering="charge_nanos")
    def charge(self, row: Any) -> str:
        """The exact charge."""
        return show_money(row.charge_nanos, row.account.currency, places=9)


@admin.register(Account)
class AccountAdmin(FactAdmin):
    """All payers."""

    list_display = ("name", "organization", "currency", "created_at")
    list_select_related = ("organization",)
    search_fields = ("name",)
    fields = ("name", "organization", "currency", "created_at", "suspended_at")
    readonly_fields = ("organization",)


@admin.register(Budget)
class BudgetAdmin(FactAdmin):
    """What may be spent."""

    list_display = ("account", "subject", "interval", "starts", "limit", "spent", "leased")
    list_filter = ("interval",)
    list_select_related = ("account",)
    search_fields = ("account__name", "subject")
    fields = ("account", "subject", "interval", "starts", "ends_at", "limit", "spent", "leased")
    readonly_fields = ("starts", "limit", "spent", "leased")

    @display(description="Starts at", ordering="starts_at")
    def starts(self, budget: Budget) -> datetime | str:
        """When its period began; a total one has none."""
        return "–" if budget.starts_at == EPOCH else budget.starts_at

    @display(description="Limit", ordering="limit_nanos")
    def limit(self, budget: Budget) -> str:
        """What may be spent in all."""
        return show_of_budget(budget.limit_nanos, budget)

    @display(description="Spent", ordering="spent_nanos")
    def spent(self, budget: Budget) -> str:
        """What was settled."""
        return show_of_budget(budget.spent_nanos, budget)

    @display(description="Leased", ordering="leased_nanos")
    def leased(self, budget: Budget) -> str:
        """What gateways have set aside."""
        return show_of_budget(budget.leased_nanos, budget)


@admin.register(Lease)
class LeaseAdmin(FactAdmin):
    """Which process has which part of a budget."""

    list_display = ("budget", "process", "amount")
    list_select_related = ("budget__account", "process")
    fields = ("budget", "process", "amount")
    readonly_fields = ("amount",)

    @display(description="Amount", ordering="amount_nanos")
    def amount(self, lease: Lease) -> str:
        """What the process may spend."""
        return show_of_budget(lease.amount_nanos, lease.budget)


@admin.register(GatewayProcess)
class GatewayProcessAdmin(NamedColumns, FactAdmin):
    """The processes that settle calls."""

    list_display = ("shown_pk", "state", "started_at", "heartbeat", "commit_seq", "delivered_seq")
    ordering = ("-started_at",)
    fields = ("shown_pk", "state", "started_at", "heartbeat_at", "commit_seq", "delivered_seq", "closed_at", "reclaimed_at")
    readonly_fields = ("shown_pk", "state")

    @display(description="State", label={"running": "success", "closed": "info", "reclaimed": "warning"})
    def state(self, process: GatewayProcess) -> str:
        """Whether it lives."""
        if process.reclaimed_at:
            return "reclaimed"
        return "closed" if process.closed_at else "running"

    @display(description="Heartbeat", ordering="heartbeat_at")
    def heartbeat(self, process: GatewayProcess) -> str:
        """How old its last sign of life is."""
        return show_age(process.heartbeat_at)


@admin.register(Price)
class PriceAdmin(NamedColumns, FactAdmin):
    """All prices. New ones are set on the version's page."""

    list_display = ("shown_sku", "advertised", "currency", "effective_from")
    list_filter = ("unit",)
    search_fields = ("sku",)
    ordering = ("sku", "-effective_from")
    fields = ("shown_sku", "advertised", "unit", "each", "currency", "effective_from", "created_at")
    readonly_fields = ("shown_sku", "advertised", "each")

    @display(description="Price", ordering="unit_nanos")
    def advertised(self, price: Price) -> str:
        """The price as customers read it."""
        return price_words(terms_of(price))

    @display(description="Price of one", ordering="unit_nanos")
    def each(self, price: Price) -> str:
        """The exact price of a unit."""
        return to_decimal_string(price.unit_nanos)


@admin.register(UsageEvent)
class UsageEventAdmin(NamedColumns, _Charge, LongFactAdmin):
    """All metered facts, the newest first."""

    list_display = ("shown_pk", "occurred_at", "account", "shown_sku", "units", "unit", "charge", "mode", "refunded")
    list_filter = (ModeFilter,)
    list_select_related = ("account", "refund")
    search_fields = ("account__name", "sku")
    ordering = ("-occurred_at",)
    fields = (
        "shown_pk",
        "occurred_at",
        "account",
        "shown_sku",
        "price",
        "units",
        "unit",
        "charge",
        "mode",
        "source",
        "process",
        "seq",
        "refunded",
    )
    readonly_fields = ("shown_pk", "shown_sku", "charge", "mode", "refunded")
    actions_detail = ("give_back",)

    @display(description="Refunded")
    def refunded(self, event: UsageEvent) -> str:
        """Whether its charge was given back. A red cross would call the others faulty."""
        return "yes" if hasattr(event, "refund") else "–"

    @action(description="Refund", url_path="refund", permissions=["deed"], icon="undo")
    def give_back(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Give the charge back."""
        event: UsageEvent = find_target(self, request, object_id)

        def do(fields: Any) -> None:
            refund_call(event.pk, reason=fields["reason"], by=operator_of(request))

        warning = f"{show_money(event.charge_nanos, event.account.currency, places=9)} goes back to {event.account}. Refunding twice changes nothing."
        return run_deed(self, request, title=f"Refund {event.pk}", warning=warning, form=bind(ReasonForm, request), do=do, target=event)


@admin.register(UsageRefund)
class UsageRefundAdmin(_Charge, LongFactAdmin):
    """What was given back."""

    list_display = ("created_at", "account", "charge", "reason", "by", "booked_at")
    list_select_related = ("account",)
    search_fields = ("account__name", "reason")
    ordering = ("-created_at",)
    fields = ("event", "account", "charge", "reason", "by", "booked_at", "created_at")
    readonly_fields = ("charge",)


@admin.register(UsageRollup)
class UsageRollupAdmin(NamedColumns, _Charge, LongFactAdmin):
    """Hourly sums."""

    list_display = ("hour", "account", "shown_sku", "mode", "events", "units", "charge", "refunded_events")
    list_filter = (ModeFilter,)
    list_select_related = ("account",)
    search_fields = ("account__name", "sku")
    ordering = ("-hour",)
    fields = (
        "hour",
        "account",
        "shown_sku",
        "price",
        "unit",
        "mode",
        "source",
        "events",
        "units",
        "charge",
        "refunded_events",
        "refunded_units",
    )
    readonly_fields = ("shown_sku", "mode", "charge")


@admin.register(CreditGrant)
class CreditGrantAdmin(FactAdmin):
    """Credit given. More is given on the organization's page."""

    list_display = ("created_at", "account", "amount", "kind", "priority", "expires_at", "by", "reference")
    list_filter = ("kind",)
    list_select_related = ("account",)
    search_fields = ("account__name", "reference", "by")
    ordering = ("-created_at",)
    fields = ("account", "amount", "kind", "priority", "expires_at", "reference", "by", "created_at", "transaction")
    readonly_fields = ("amount",)

    @display(description="Amount", ordering="amount_nanos")
    def amount(self, grant: CreditGrant) -> str:
        """What was given."""
        return show_money(grant.amount_nanos, grant.account.currency)


class EntryInline(TabularInline):
    """A transaction's entries, which sum to zero."""

    model = LedgerEntry
    verbose_name_plural = "Entries"
    extra = 0
    can_delete = False
    fields = ("ledger_account", "amount")
    readonly_fields = fields

    @display(description="Amount", ordering="amount_nanos")
    def amount(self, entry: LedgerEntry) -> str:
        """What it moves, with its sign."""
        return show_money(entry.amount_nanos, entry.ledger_account.currency)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002 (Django's signature)
        """No: entries are posted."""
        return False


@admin.register(LedgerTransaction)
class LedgerTransactionAdmin(LongFactAdmin):
    """The ledger."""

    list_display = ("created_at", "kind", "reference", "by")
    list_filter = ("kind",)
    search_fields = ("reference", "by")
    ordering = ("-created_at",)
    inlines = (EntryInline,)
    fields = ("kind", "reference", "by", "created_at")
