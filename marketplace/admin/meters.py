"""The provider's meters of usage: what they were told, what they hold, and what they could not count."""

from typing import Any

from django.contrib import admin
from django.utils.html import format_html_join
from django.utils.safestring import mark_safe
from unfold.decorators import display

from billing.feed_books import MeterStatement, meter_statement
from billing.models import MeterFault, MeterFeed, MeterReport
from billing.money import to_decimal_string
from marketplace.admin.facts import FactAdmin, LongFactAdmin, NamedColumns

# Where what was posted is, as people read it.
PARTS = (
    ("posted", "Posted since it began"),
    ("held", "Held by the meter"),
    ("not_reported", "Not reported yet"),
    ("carried", "Below its smallest unit, carried on"),
    ("waiting", "Waiting to be sent"),
    ("not_looked_at", "Accepted, and not looked at since"),
    ("too_old", "Too old for it"),
    ("refused", "Refused or not counted"),
    ("unexplained", "Unexplained"),
)


def show_amount(feed: MeterFeed, amount: int) -> str:
    """Return an amount of a feed for people: calls, or charges in each account's currency."""
    if feed.quantity == MeterFeed.Quantity.CALLS:
        return f"{amount:,}"
    return f"{'-' if amount < 0 else ''}{to_decimal_string(abs(amount), places=6)}"


def statement_text(feed: MeterFeed, statement: MeterStatement) -> list[str]:
    """Return the lines of a feed's statement."""
    return [f"{words}: {show_amount(feed, getattr(statement, name))}" for name, words in PARTS]


@admin.register(MeterFeed)
class MeterFeedAdmin(FactAdmin):
    """The meters that `STRIPE_METERS` names, or named."""

    list_display = ("event_name", "quantity", "state", "unexplained", "fed_at")
    search_fields = ("event_name", "meter_id")
    ordering = ("event_name",)
    fields = ("event_name", "quantity", "state", "meter_id", "failure", "started_at", "fed_at", "statement")
    readonly_fields = ("state", "statement")

    @display(description="State", label={"fed": "success", "not made yet": "info", "cannot be fed": "danger"})
    def state(self, feed: MeterFeed) -> str:
        """Whether it is told."""
        return "cannot be fed" if feed.failure else "fed" if feed.meter_id else "not made yet"

    @display(description="Unexplained")
    def unexplained(self, feed: MeterFeed) -> str:
        """What no cause is known of; nothing in good books."""
        return show_amount(feed, meter_statement(feed).unexplained)

    @display(description="Where it is")
    def statement(self, feed: MeterFeed) -> str:
        """Where all is that was posted."""
        return format_html_join(mark_safe("<br>"), "{}", ((line,) for line in statement_text(feed, meter_statement(feed))))


@admin.register(MeterReport)
class MeterReportAdmin(NamedColumns, LongFactAdmin):
    """What meters are told: one event an hour and account, and one for each later change."""

    list_display = ("hour", "account", "feed", "shown_amount", "state", "settled_at", "failure")
    list_filter = ("status", "feed")
    list_select_related = ("account", "feed")
    search_fields = ("account__name", "failure")
    ordering = ("-hour", "-created_at")
    fields = (
        "shown_identifier",
        "feed",
        "account",
        "hour",
        "period",
        "number",
        "shown_amount",
        "value",
        "counted_at",
        "state",
        "failure",
        "created_at",
        "settled_at",
    )
    readonly_fields = ("shown_identifier", "shown_amount", "state")

    @display(description="Identifier")
    def shown_identifier(self, report: MeterReport) -> str:
        """Its name at the provider."""
        return report.identifier

    @display(description="Amount", ordering="amount")
    def shown_amount(self, report: MeterReport) -> str:
        """What it tells."""
        return show_amount(report.feed, report.amount)

    @display(
        description="State", label={"accepted": "success", "waiting": "info", "empty": "info", "refused": "danger", "too_old": "danger"}
    )
    def state(self, report: MeterReport) -> str:
        """How far it is."""
        return report.status


@admin.register(MeterFault)
class MeterFaultAdmin(LongFactAdmin):
    """What the provider said, after it had accepted events, that it did not count."""

    list_display = ("created_at", "feed", "code", "count", "report", "message")
    list_filter = ("code", "feed")
    list_select_related = ("feed", "report__feed")
    search_fields = ("code", "message")
    ordering = ("-created_at",)
    fields = ("event", "feed", "code", "count", "report", "message", "created_at")

    def get_queryset(self, request: Any) -> Any:
        """Return all, each with what it names."""
        return super().get_queryset(request).select_related("event", "feed", "report__feed")
