"""The audit record: who did what."""

from django.contrib import admin
from unfold.decorators import display

from marketplace.admin.facts import LongFactAdmin
from marketplace.models import AuditEvent


@admin.register(AuditEvent)
class AuditEventAdmin(LongFactAdmin):
    """All deeds, the newest first."""

    list_display = ("sequence", "created_at", "by", "action", "target", "organization", "said")
    list_filter = ("action",)
    list_select_related = ("organization",)
    search_fields = ("by", "action", "target", "organization__slug")
    ordering = ("-sequence",)
    fields = ("sequence", "created_at", "by", "action", "target", "organization", "details", "hash", "previous_hash")

    @display(description="Reason")
    def said(self, event: AuditEvent) -> str:
        """The reason that was given, if one was."""
        return str(event.details.get("reason", ""))
