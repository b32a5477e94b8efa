"""What was posted of usage, and who gets which share."""

from typing import Any

from django.contrib import admin
from unfold.decorators import display

from billing.models import SkuShare, UsagePosting
from marketplace.admin.facts import FactAdmin, LongFactAdmin, NamedColumns, show_money


@admin.register(UsagePosting)
class UsagePostingAdmin(NamedColumns, LongFactAdmin):
    """Usage as the ledger has it: an hour, a SKU and a price a row."""

    list_display = ("hour", "account", "shown_sku", "kind", "events", "units", "charge", "fee", "share", "payee")
    list_filter = ("kind",)
    list_select_related = ("account", "payee", "price")
    ordering = ("-pk",)
    fields = (
        *("hour", "account", "shown_sku", "unit", "number", "kind", "period", "events", "units", "charge", "fee_basis_points", "fee"),
        *("share", "payee", "range_events", "first_event", "last_event", "first_seq", "last_seq", "merkle_root", "created_at"),
    )
    readonly_fields = ("charge", "fee", "share")

    @display(description="Charge", ordering="charge_nanos")
    def charge(self, row: Any) -> str:
        """What the customer was charged."""
        return show_money(row.charge_nanos, row.account.currency, places=9)

    @display(description="Fee", ordering="fee_nanos")
    def fee(self, row: Any) -> str:
        """What the site kept."""
        return show_money(row.fee_nanos, row.account.currency, places=9)

    @display(description="Share", ordering="share_nanos")
    def share(self, row: Any) -> str:
        """What the provider earned."""
        return show_money(row.share_nanos, row.account.currency, places=9)


@admin.register(SkuShare)
class SkuShareAdmin(FactAdmin):
    """Who is paid for which model. Set on the model's page."""

    list_display = ("subject", "payee", "fee_basis_points", "effective_from", "by")
    list_select_related = ("payee",)
    search_fields = ("subject", "payee__name")
    ordering = ("subject", "-effective_from")
    fields = ("subject", "payee", "fee_basis_points", "effective_from", "by", "created_at")
