"""Lists of API.md section 6: newest first, paged by key, never by offset.

A page is found by index however deep it lies, and rows that come in meanwhile shift nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from uuid import UUID

from django.db.models import Model, Q, QuerySet
from drf_spectacular.utils import inline_serializer
from rest_framework import serializers
from rest_framework.request import Request

from marketplace.api.fields import Form, PublicId
from marketplace.errors import RequestMalformed

M = TypeVar("M", bound=Model)


class PageForm(Form):
    """The query parameters that every list takes."""

    limit = serializers.IntegerField(min_value=1, max_value=100, default=20, help_text="Rows of the page.")


def page_form(prefix: str, name: str, **filters: serializers.Field[Any, Any, Any, Any]) -> type[PageForm]:
    """Return the form of a list whose rows have ids of that prefix, with its own filters."""
    cursors = {
        "starting_after": PublicId(prefix, required=False, help_text="Id of the last row of the page before."),
        "ending_before": PublicId(prefix, required=False, help_text="Id of the first row of the page after."),
    }
    return type(name, (PageForm,), {**cursors, **filters, "__doc__": PageForm.__doc__, "__module__": __name__})


@dataclass(frozen=True, slots=True)
class Page(Generic[M]):
    """Some rows of a list, and whether there are more in the direction of travel."""

    rows: Sequence[M]
    has_more: bool


def read_page(rows: QuerySet[M], query: dict[str, Any], *, by: str) -> Page[M]:
    """Return the asked page, newest first.

    Args:
        rows: The caller's own rows, filtered.
        query: A valid `page_form`.
        by: The column that orders them, a time; rows of one time are ordered by id.

    Raises:
        RequestMalformed: the cursor names no row of the caller's, foreign and absent alike.
    """
    limit: int = query["limit"]
    after, before = query.get("starting_after"), query.get("ending_before")
    if after and before:
        message = "Send starting_after or ending_before, not both."
        raise RequestMalformed(message, param="ending_before")
    if before:
        newer = rows.filter(_beyond(rows, before, by=by, side="gt", param="ending_before")).order_by(by, "pk")
        found = list(newer[: limit + 1])
        return Page(found[:limit][::-1], has_more=len(found) > limit)
    if after:
        rows = rows.filter(_beyond(rows, after, by=by, side="lt", param="starting_after"))
    found = list(rows.order_by(f"-{by}", "-pk")[: limit + 1])
    return Page(found[:limit], has_more=len(found) > limit)


def _beyond(rows: QuerySet[M], cursor: UUID, *, by: str, side: str, param: str) -> Q:
    at = rows.filter(pk=cursor).values_list(by, flat=True).first()
    if at is None:
        message = f"{param} names no row of this list."
        raise RequestMalformed(message, param=param)
    return Q(**{f"{by}__{side}": at}) | Q(**{by: at, f"pk__{side}": cursor})


def render_list(page: Page[M], request: Request, shown: Any) -> dict[str, Any]:
    """Return a page in the form of API.md section 6, its rows as they are shown."""
    return {"object": "list", "data": shown, "has_more": page.has_more, "url": request.path}


def list_of(row: type[serializers.Serializer[Any]], name: str) -> serializers.Serializer[Any]:
    """Return the schema of a list of such rows, for the documentation."""
    return inline_serializer(
        name=name,
        fields={
            "object": serializers.ChoiceField(choices=["list"]),
            "data": row(many=True),
            "has_more": serializers.BooleanField(),
            "url": serializers.CharField(),
        },
    )
