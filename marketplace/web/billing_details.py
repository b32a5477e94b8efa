"""Who an organization is on its invoices: name, address, tax id."""

from django import forms
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods

from billing.models import BillingDetails
from marketplace.postpaid import change_details as change
from marketplace.web.access import MemberRequest, member_required


class DetailsForm(forms.Form):
    """What the next invoices print."""

    name = forms.CharField(label=gettext_lazy("Name on invoices"), max_length=120, required=False)
    address = forms.CharField(label=gettext_lazy("Address"), max_length=500, required=False, widget=forms.Textarea(attrs={"rows": 4}))
    tax_id = forms.CharField(label=gettext_lazy("Tax id"), max_length=40, required=False)


@member_required
@require_http_methods(["GET", "HEAD", "POST"])
def change_details(request: MemberRequest) -> HttpResponse:
    """Show and change what the next invoices print; closed ones keep what they say."""
    if request.method == "POST":
        form = DetailsForm(request.POST)
        if form.is_valid():
            change(request.organization, by=request.user, **form.cleaned_data)
            messages.success(request, _("The next invoices print these details."))
            return redirect("billing_details")
    else:
        found = BillingDetails.objects.filter(account=request.organization.account).first()
        known = {name: getattr(found, name) for name in ("name", "address", "tax_id")} if found else {"name": request.organization.name}
        form = DetailsForm(initial=known)
    return render(request, "billing/details.html", {"form": form}, status=422 if form.is_bound else 200)
