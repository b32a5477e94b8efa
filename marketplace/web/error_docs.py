"""Documentation pages: an index, and one page for every code that a refusal can carry."""

from itertools import groupby
from typing import Any, Final

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_safe

from marketplace.problems import PROBLEMS
from marketplace.web import snippets
from marketplace.web.playground import TRY_MODEL

_STATUS_MEANINGS: Final = {
    400: _("The request is malformed"),
    401: _("Who are you?"),
    402: _("Money"),
    403: _("Not allowed"),
    404: _("Not there, or not yours"),
    405: _("Wrong method"),
    408: _("Sent too slowly"),
    409: _("In conflict or in progress"),
    413: _("Too large"),
    422: _("Understood, but not usable"),
    429: _("Too fast"),
    500: _("Our fault"),
    503: _("No capacity now"),
    504: _("Too late"),
}


@require_safe
def show_docs(request: HttpRequest) -> HttpResponse:
    """Show how to call a model, what replies carry, and where the rest is."""
    context: dict[str, Any] = {
        "snippets": snippets.all_snippets("/".join(TRY_MODEL), key="fb_sk_live_…"),
        "live_rate": settings.LIVE_KEY_RATE_PER_MINUTE,
        "test_rate": settings.TEST_KEY_RATE_PER_MINUTE,
        "max_rows": settings.MAX_CALL_ROWS,
        "idempotency_hours": settings.IDEMPOTENCY_HOURS,
    }
    return render(request, "docs/index.html", context)


@require_safe
def list_errors(request: HttpRequest) -> HttpResponse:
    """Show all codes, by status."""
    ordered = sorted(PROBLEMS.values(), key=lambda problem: (problem.status, problem.code))
    groups = [
        (status, _STATUS_MEANINGS.get(status, ""), list(problems))
        for status, problems in groupby(ordered, key=lambda problem: problem.status)
    ]
    return render(request, "docs/errors.html", {"groups": groups})


@require_safe
def show_error(request: HttpRequest, code: str) -> HttpResponse:
    """Show what a code means, what was (not) charged, and what to do. Every problem's `type` leads here."""
    problem = PROBLEMS.get(code)
    if problem is None:
        raise Http404
    return render(request, "docs/error.html", {"problem": problem, "type_url": f"{settings.SITE_URL}{request.path}"})
