"""The keys page: create, reveal once, cap, rotate, revoke."""

from collections import Counter
from typing import Any, Final
from uuid import UUID

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from billing.ids import parse_public_id, public_id
from billing.models import Budget
from billing.periods import month_of
from billing.usage import usage_by
from marketplace.errors import KeyExpiryInPast, KeyLimitReached, KeyNotLive
from marketplace.keys import ROTATION_GRACES, issue_key, revoke_key, rotate_key, set_monthly_cap
from marketplace.models import ApiKey
from marketplace.sealed import seal, unseal
from marketplace.web.access import MemberRequest, member_required
from marketplace.web.budgets import budgets_of_key
from marketplace.web.key_forms import CapForm, KeyForm, RotationForm
from marketplace.web.models import listed_models

# Session entry of a sealed secret between the POST that made it and the page that shows it once.
_REVEALED: Final = "sealed_key"


def get_key(request: MemberRequest, key_id: str, *, or_playground: bool = False) -> ApiKey:
    """Return one of the organization's keys; one of its members' playgrounds where those count too.

    Raises:
        Http404: there is none of that id, or it is another organization's.
    """
    keys = request.organization.keys
    wanted = keys.issued() | keys.of_members_playgrounds() if or_playground else keys.issued()
    uuid = parse_public_id("key", key_id)
    key = wanted.filter(pk=uuid).first() if uuid else None
    if key is None:
        raise Http404
    return key


@require_safe
@member_required
def list_keys(request: MemberRequest) -> HttpResponse:
    """Show the organization's keys, newest first, with what each spent this month."""
    now = timezone.now()
    rows = usage_by(request.organization.account, group_by="source", since=month_of(now)[0], until=now)
    spent = Counter[object]()
    for row in rows:
        spent[row.group] += row.charge_nanos
    keys = list(request.organization.keys.issued().order_by("-created_at"))
    live = [(key, spent[str(key.pk)]) for key in keys if is_live(key)]
    ended = [(key, spent[str(key.pk)]) for key in keys if not is_live(key)]
    playground = [
        (key, max(1, round((key.expires_at - now).total_seconds() / 60)))
        for key in request.organization.keys.live().of_members_playgrounds().select_related("created_by").order_by("-created_at")
        if key.expires_at
    ]
    return render(request, "keys/list.html", {"live": live, "ended": ended, "playground": playground})


def is_live(key: ApiKey) -> bool:
    """Whether a key works now."""
    return key.revoked_at is None and (key.expires_at is None or key.expires_at > timezone.now())


@require_http_methods(["GET", "HEAD", "POST"])
@member_required
def create_key(request: MemberRequest) -> HttpResponse:
    """Show the form of a new key, and make it."""
    paths = [entry.model.path for entry in listed_models(request.organization)]
    form = KeyForm(request.POST or None, model_paths=paths)
    if request.method == "POST" and form.is_valid():
        try:
            key, secret = issue_key(
                organization=request.organization,
                name=form.cleaned_data["name"],
                settings=form.settings(),
                by=request.user,
            )
        except KeyLimitReached as error:
            form.add_error(None, _("You already hold %(limit)s live keys. Revoke one first.") % {"limit": error.limit})
        except KeyExpiryInPast:
            form.add_error("expires_on", _("This day has passed."))
        else:
            return _reveal(request, key, secret)
    return render(request, "keys/new.html", {"form": form}, status=422 if form.errors else 200)


def _reveal(request: MemberRequest, key: ApiKey, secret: str) -> HttpResponse:
    request.session[_REVEALED] = {"id": str(key.pk), "sealed": seal(secret)}
    return redirect("key", key_id=public_id("key", key.pk))


@require_safe
@member_required
def show_key(request: MemberRequest, key_id: str) -> HttpResponse:
    """Show one key; right after it was made, and only then, with its secret."""
    key = get_key(request, key_id)
    return render(request, "keys/key.html", {**_key_context(request, key), "secret": _take_secret(request, key.pk)})


def _take_secret(request: MemberRequest, key_pk: UUID) -> str:
    revealed = request.session.get(_REVEALED)
    if not revealed or revealed["id"] != str(key_pk):
        return ""
    del request.session[_REVEALED]
    return unseal(revealed["sealed"])


def _key_context(request: MemberRequest, key: ApiKey) -> dict[str, Any]:
    account, starts_at = request.organization.account, month_of(timezone.now())[0]
    budget = Budget.objects.filter(account=account, subject=key.budget_subject, starts_at=starts_at).first()
    spent_nanos = budget.spent_nanos if budget else 0
    cap_nanos = key.monthly_cap_nanos
    return {
        "key": key,
        "is_live": is_live(key),
        "spent_nanos": spent_nanos,
        "spent_percent": min(100, round(100 * spent_nanos / cap_nanos, 1)) if cap_nanos else (100 if cap_nanos == 0 else 0),
        "cap_form": CapForm.of(key),
        "budget_rows": budgets_of_key(request, key) if key.livemode else [],
        "rotation_form": RotationForm(),
    }


@require_POST
@member_required
def change_cap(request: MemberRequest, key_id: str) -> HttpResponse:
    """Set or lift what a key may spend in a month."""
    key = get_key(request, key_id)
    form = CapForm(request.POST)
    if not form.is_valid():
        return render(request, "keys/key.html", {**_key_context(request, key), "cap_form": form}, status=422)
    set_monthly_cap(key, cap_nanos=form.cleaned_data["monthly_cap"], by=request.user)
    messages.success(request, _("The cap is set."))
    return redirect("key", key_id=key_id)


@require_POST
@member_required
def replace_key(request: MemberRequest, key_id: str) -> HttpResponse:
    """Rotate a key: a new secret now, and time for the old one to be replaced where it is used."""
    key = get_key(request, key_id)
    form = RotationForm(request.POST)
    if not form.is_valid():
        return render(request, "keys/key.html", {**_key_context(request, key), "rotation_form": form}, status=422)
    try:
        fresh, secret = rotate_key(key, grace=ROTATION_GRACES[form.cleaned_data["grace"]], by=request.user)
    except KeyLimitReached as error:
        messages.error(request, _("You already hold %(limit)s live keys. Revoke one first.") % {"limit": error.limit})
        return redirect("key", key_id=key_id)
    except KeyNotLive:
        messages.error(request, _("This key has ended, so it cannot be rotated."))
        return redirect("key", key_id=key_id)
    return _reveal(request, fresh, secret)


@require_http_methods(["GET", "HEAD", "POST"])
@member_required
def end_key(request: MemberRequest, key_id: str) -> HttpResponse:
    """Ask whether to revoke a key, and do it."""
    key = get_key(request, key_id, or_playground=True)
    if request.method != "POST":
        return render(request, "keys/revoke.html", {"key": key})
    revoke_key(key, by=request.user)
    messages.success(request, _("“%(name)s” is revoked. It fails everywhere within a second.") % {"name": key.name})
    return redirect("keys")
