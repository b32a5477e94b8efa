"""Pages that show rows and change none: what happened stays as it happened."""

from datetime import datetime
from typing import Any

from django.contrib import admin
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from unfold.admin import ModelAdmin
from unfold.decorators import display
from unfold.paginator import InfinitePaginator

from billing.agreements import QUOTA_PREFIX
from billing.models import Budget
from billing.money import to_decimal_string
from marketplace.amounts import SYMBOLS


class FactAdmin(ModelAdmin):
    """A table that the operator reads. Changes come by deeds alone (`deeds.py`)."""

    actions = None
    list_per_page = 50
    compressed_fields = True
    warn_unsaved_form = False

    def has_add_permission(self, request: HttpRequest) -> bool:  # noqa: ARG002 (Django's signature)
        """No."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:  # noqa: ARG002 (Django's signature)
        """No: rows are shown, not edited."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:  # noqa: ARG002 (Django's signature)
        """No."""
        return False

    def has_deed_permission(self, request: HttpRequest, object_id: Any = None) -> bool:  # noqa: ARG002 (Unfold's signature)
        """Who may change such rows by Django's permissions may do the deeds of this page."""
        return request.user.has_perm(f"{self.opts.app_label}.change_{self.opts.model_name}")


class ModeFilter(admin.SimpleListFilter):
    """Live or test, where Django's own filter would ask "by livemode: yes or no"."""

    title = "mode"
    parameter_name = "mode"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:  # noqa: ARG002 (Django's signature)
        """What can be chosen."""
        return [("live", "Live"), ("test", "Test")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:  # noqa: ARG002 (Django's signature)
        """Return what was chosen."""
        value = self.value()
        return queryset.filter(livemode=value == "live") if value in {"live", "test"} else queryset


class NamedColumns:
    """Columns whose fields' own names are not words for people."""

    @display(description="ID", ordering="pk")
    def shown_pk(self, row: Any) -> str:
        """The row's id."""
        return str(row.pk)

    @display(description="SKU", ordering="sku")
    def shown_sku(self, row: Any) -> str:
        """What is sold."""
        return str(row.sku)

    @display(description="Mode", ordering="livemode")
    def mode(self, row: Any) -> str:
        """Whether it is charged."""
        return "live" if row.livemode else "test"


class LongFactAdmin(FactAdmin):
    """A table that grows with every call: nothing here counts its rows."""

    paginator = InfinitePaginator
    show_full_result_count = False


def show_money(nanos: int | None, currency: str, *, places: int = 2) -> str:
    """Return an amount for people, in the currency that it is in; none is a dash."""
    if nanos is None:
        return "–"
    return f"{'-' if nanos < 0 else ''}{SYMBOLS[currency]}{to_decimal_string(abs(nanos), places=places)}"


def show_of_budget(nanos: int, budget: Budget) -> str:
    """Return an amount of a budget: money, or the units of a plan's quota."""
    return f"{nanos:,} units" if budget.subject.startswith(QUOTA_PREFIX) else show_money(nanos, budget.account.currency)


def show_age(moment: datetime | None) -> str:
    """Return how long ago a moment was, in its largest unit; none is "never"."""
    if moment is None:
        return "never"
    seconds = max(0, int((timezone.now() - moment).total_seconds()))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"
