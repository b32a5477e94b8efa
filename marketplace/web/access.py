"""Who sees a page: signed-in members of an organization. Every query starts from `request.organization`."""

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, Final, ParamSpec, cast

from django.conf import settings
from django.contrib.auth.views import redirect_to_login
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST

from marketplace.amounts import use_currency
from marketplace.models import Organization, User

P = ParamSpec("P")

# Where the organization is kept on the request: pages and the header ask more than once.
_CACHE: Final = "_farebox_organization"
_SESSION: Final = "organization"  # The slug of the one chosen.


class MemberRequest(HttpRequest):
    """A request of a signed-in person, with the organization they work in."""

    user: User
    organization: Organization


def find_organization(request: HttpRequest) -> Organization | None:
    """Return the organization that the signed-in person works in: the one chosen, else the one they joined first."""
    if not hasattr(request, _CACHE):
        joined = joined_organizations(request)
        chosen = next((one for one in joined if one.slug == request.session.get(_SESSION)), None)
        setattr(request, _CACHE, chosen or (joined[0] if joined else None))
        found = cast("Organization | None", getattr(request, _CACHE))
        use_currency(found.account.currency if found else settings.CURRENCY)
    return cast("Organization | None", getattr(request, _CACHE))


def joined_organizations(request: HttpRequest) -> list[Organization]:
    """Return the signed-in person's organizations, the one joined first before the others."""
    user = request.user
    return list(user.organizations.select_related("account").order_by("created_at")) if isinstance(user, User) else []


@require_POST
def choose_organization(request: HttpRequest) -> HttpResponse:
    """Work in another of one's own organizations from now on."""
    user = request.user
    if not isinstance(user, User):
        return redirect_to_login(reverse("dashboard"))
    organization = user.organizations.filter(slug=request.POST.get("organization", "")).first()
    if organization is None:
        raise Http404
    request.session[_SESSION] = organization.slug
    return redirect("dashboard")


def member_required(
    view: Callable[Concatenate[MemberRequest, P], HttpResponseBase],
) -> Callable[Concatenate[HttpRequest, P], HttpResponseBase]:
    """Let only members in: others sign in first; who belongs to no organization is told so (403)."""

    @wraps(view)
    def checked(request: HttpRequest, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
        if not request.user.is_authenticated:
            return redirect_to_login(request.get_full_path())
        organization = find_organization(request)
        if organization is None:
            return render(request, "errors/no_organization.html", status=403)
        member = cast("MemberRequest", request)
        member.organization = organization
        response = view(member, *args, **kwargs)
        # Bills and keys stay out of shared caches, and out of the back button after signing out.
        response.setdefault("Cache-Control", "private, no-store")
        return response

    return checked
