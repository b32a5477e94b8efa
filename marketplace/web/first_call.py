"""The first call: a curl that is ready to paste, and the page that sees it arrive."""

from typing import Any, Final

from django.conf import settings
from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from billing.ids import public_id
from marketplace.models import Organization, RequestLog
from marketplace.sealed import unseal
from marketplace.web import snippets
from marketplace.web.access import MemberRequest, member_required
from marketplace.web.accounts import FIRST_SECRET
from marketplace.web.models import listed_models
from marketplace.web.playground import TRY_MODEL

_NO_KEY: Final = "fb_sk_live_…"  # Where the secret is not in this session: it is shown only once.


@require_safe
@member_required
def show_first_call(request: MemberRequest) -> HttpResponse:
    """Show the ready call, and wait for it."""
    secret = unseal(request.session.get(FIRST_SECRET, ""))
    entries = listed_models(request.organization)
    paths = [entry.model.path for entry in entries]
    preferred = "/".join(TRY_MODEL)
    path = preferred if preferred in paths or not paths else paths[0]
    context: dict[str, Any] = {
        "secret": secret,
        "snippets": snippets.all_snippets(path, key=secret or _NO_KEY),
        "free_credit_cents": settings.FREE_CREDIT_CENTS,
        **_state(request),
    }
    return render(request, "first_call/first_call.html", context)


@require_safe
@member_required
def show_state(request: MemberRequest) -> HttpResponse:
    """Answer the page's polling: the first call with its reply, or 204 while nothing has changed.

    204, because htmx then leaves the page as it is: a screen reader hears "waiting" once.
    """
    state = _state(request)
    if state["seen"] == request.GET.get("seen"):
        return HttpResponse(status=204)
    return render(request, "first_call/state.html", state)


def _state(request: MemberRequest) -> dict[str, Any]:
    """Find the first answered call. Its kept reply is shown once and then erased: payloads are not stored."""
    call = find_first_call(request.organization)
    refused = None
    reply = ""
    if call is None:
        refused = request.organization.requests.filter(route__in=RequestLog.RUNS).exclude(status=200).order_by("-occurred_at").first()
    else:
        reply = call.reply
        if reply:
            RequestLog.objects.filter(pk=call.pk).update(reply="")
        if request.session.pop(FIRST_SECRET, None):
            request.session.modified = True
    return {
        "call": call,
        "reply": reply,
        "refused": refused,
        "request_id": public_id("req", call.pk) if call else "",
        "seen": "answered" if call else public_id("req", refused.pk) if refused else "nothing",
    }


def find_first_call(organization: Organization) -> RequestLog | None:
    """Return the organization's first answered predict, or None while it waits for one."""
    if organization.first_call_at is None:
        return None
    answered = organization.requests.filter(status=200, route__in=RequestLog.RUNS).select_related("version__model__owner", "key")
    return answered.order_by("occurred_at").first()
