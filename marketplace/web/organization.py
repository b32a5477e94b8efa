"""The organization's own page: what it is called, and the settings that hold for all of its keys."""

from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from marketplace.tenants import set_response_cache
from marketplace.web.access import MemberRequest, member_required


@require_http_methods(["GET", "HEAD", "POST"])
@member_required
def change_settings(request: MemberRequest) -> HttpResponse:
    """Show the settings, or change them."""
    if request.method == "POST":
        set_response_cache(request.organization, enabled=request.POST.get("response_cache") == "on", by=request.user)
        return redirect("organization_settings")
    return render(request, "organization/settings.html", {"organization": request.organization})
