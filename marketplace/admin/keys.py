"""API keys, masked: neither secrets nor digests reach a page."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from unfold.decorators import action, display

from marketplace.admin.deeds import ConfirmForm, bind, find_target, operator_of, run_deed
from marketplace.admin.facts import FactAdmin, ModeFilter, NamedColumns, show_age, show_money
from marketplace.keys import revoke_key
from marketplace.models import ApiKey


@admin.register(ApiKey)
class ApiKeyAdmin(NamedColumns, FactAdmin):
    """All keys."""

    list_display = ("masked", "name", "organization", "kind", "mode", "status", "cap", "used", "created_at")
    list_filter = ("kind", ModeFilter, "playground", ("revoked_at", admin.EmptyFieldListFilter))
    list_select_related = ("organization__account",)
    search_fields = ("name", "display_start", "last4", "organization__slug")
    ordering = ("-created_at",)
    # Listed one by one, and the digest is not among them.
    fields = (
        *("masked", "name", "organization", "kind", "mode", "scopes", "allowed_models", "allowed_cidrs", "rate_per_minute", "cap"),
        *("playground", "pepper_version", "created_by", "created_at", "expires_at", "revoked_at", "last_used_at"),
    )
    readonly_fields = ("masked", "mode", "cap")
    actions_detail = ("revoke",)

    @display(description="Key")
    def masked(self, key: ApiKey) -> str:
        """Its start and its last four characters."""
        return key.masked

    @display(description="Status", label={"works": "success", "revoked": "danger", "expired": "warning"})
    def status(self, key: ApiKey) -> str:
        """Whether it works."""
        if key.revoked_at:
            return "revoked"
        return "works" if ApiKey.objects.live().filter(pk=key.pk).exists() else "expired"

    @display(description="Monthly cap")
    def cap(self, key: ApiKey) -> str:
        """What it may spend in a month."""
        return show_money(key.monthly_cap_nanos, key.organization.account.currency)

    @display(description="Last used", ordering="last_used_at")
    def used(self, key: ApiKey) -> str:
        """When it was last used."""
        return show_age(key.last_used_at)

    @action(description="Revoke", url_path="revoke", permissions=["deed"], icon="key_off")
    def revoke(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """End the key."""
        key: ApiKey = find_target(self, request, object_id)

        def do(_: Any) -> None:
            revoke_key(key, by=operator_of(request))

        warning = "It fails everywhere within a second, and cannot be brought back."
        return run_deed(self, request, title=f"Revoke {key}", warning=warning, form=bind(ConfirmForm, request), do=do, target=key)
