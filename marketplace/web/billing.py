"""Billing: the balance, buying credit, saved cards and auto-recharge. What is paid is paid on the provider's page."""

from contextlib import suppress
from typing import Any, Final

from django.conf import settings
from django.contrib import messages
from django.core.cache import cache
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from billing import topups, webhooks
from billing.customers import saved_cards
from billing.errors import BillingError, CardMissing, PaymentsFrozen, ProviderRefused, ProviderUnavailable, TopUpOutOfRange
from billing.expiring import list_grants
from billing.ids import parse_public_id, public_id
from billing.models import AutoRecharge, Customer, TopUp
from billing.money import NANOS_PER_CENT
from billing.providers import collects_money
from billing.recharging import charged_this_month
from marketplace import payments
from marketplace.amounts import money
from marketplace.web.access import MemberRequest, member_required
from marketplace.web.billing_forms import RechargeForm, TopUpForm
from marketplace.web.plans import held_by

# Offered as buttons, in cents of the account's currency.
_OFFERS: Final = (1000, 2500, 5000, 10_000)
_SHOWN: Final = 20
# While somebody waits at a top-up's page, the provider is asked itself this often (s): webhooks may be late.
_ASK_EVERY_S: Final = 8


@require_safe
@member_required
def show_billing(request: MemberRequest) -> HttpResponse:
    """Show what there is to spend, and every way to have more."""
    return render(request, "billing/billing.html", _context(request))


def _context(request: MemberRequest, **forms: Any) -> dict[str, Any]:
    account = request.organization.account
    recharge = AutoRecharge.objects.filter(account=account).first()
    customer = Customer.objects.filter(account=account).first()
    return {
        "payments": settings.PAYMENTS if collects_money() else "offline",
        "offers": [cents for cents in _OFFERS if settings.TOP_UP_MIN_CENTS <= cents <= settings.TOP_UP_MAX_CENTS],
        "minimum": settings.TOP_UP_MIN_CENTS,
        "maximum": settings.TOP_UP_MAX_CENTS,
        "top_up_form": TopUpForm(),
        "recharge_form": RechargeForm.of(recharge),
        "recharge": recharge,
        "grants": [state for state in list_grants(account) if state.left_nanos],
        "recharged_cents": charged_this_month(account, now=timezone.now()),
        "cards": saved_cards(account),
        "held": held_by(request.organization),
        "customer": customer,
        "top_ups": [(public_id("top", top_up.pk), top_up) for top_up in account.top_ups.order_by("-created_at")[:_SHOWN]],
        **forms,
    }


@member_required
@require_POST
def buy(request: MemberRequest) -> HttpResponse:
    """Start a top-up and lead to the provider's page."""
    form = TopUpForm(request.POST)
    if form.is_valid():
        try:
            top_up = payments.buy_credit(request.organization, form.cleaned_data["amount"], by=request.user)
        except TopUpOutOfRange as error:
            limits = {"least": money(error.minimum_cents * NANOS_PER_CENT), "most": money(error.maximum_cents * NANOS_PER_CENT)}
            form.add_error("amount", _("Choose an amount from %(least)s to %(most)s.") % limits)
        except BillingError as error:
            form.add_error("amount", _say(error))
        else:
            return redirect(top_up.checkout_url or _page_of(top_up))
    return render(request, "billing/billing.html", _context(request, top_up_form=form), status=422)


def _page_of(top_up: TopUp) -> str:
    return f"/billing/top-ups/{public_id('top', top_up.pk)}/"


@require_safe
@member_required
def show_top_up(request: MemberRequest, top_up_id: str) -> HttpResponse:
    """Show how far a top-up is: where the provider sends people back. It credits nothing by itself."""
    top_up = _get_top_up(request, top_up_id)
    is_polled = "HX-Request" in request.headers
    if top_up.status in topups.UNSETTLED and cache.add(f"top_up_asked:{top_up.pk}", 1, _ASK_EVERY_S) and is_polled:
        with suppress(ProviderUnavailable, ProviderRefused, ValueError):
            top_up = webhooks.refresh_top_up(top_up)
    context = {"top_up": top_up, "top_up_id": top_up_id, "is_waiting": top_up.status in topups.UNSETTLED}
    return render(request, "billing/top_up_state.html" if is_polled else "billing/top_up.html", context)


def _get_top_up(request: MemberRequest, top_up_id: str) -> TopUp:
    identity = parse_public_id("top", top_up_id)
    top_up = request.organization.account.top_ups.select_related("account").filter(pk=identity).first() if identity else None
    if top_up is None:
        raise Http404
    return top_up


@member_required
@require_POST
def change_card(request: MemberRequest) -> HttpResponse:
    """Remove a saved card, or have it charged from now on."""
    card = request.POST.get("remove") or request.POST.get("choose") or ""
    try:
        if "remove" in request.POST:
            removed = payments.forget_card(request.organization, card, by=request.user)
            messages.success(request, _("%(card)s is removed.") % {"card": removed})
        else:
            chosen = payments.prefer_card(request.organization, card, by=request.user)
            messages.success(request, _("%(card)s is charged from now on.") % {"card": chosen})
    except CardMissing:
        raise Http404 from None
    return redirect("billing")


@member_required
@require_POST
def change_recharge(request: MemberRequest) -> HttpResponse:
    """Turn auto-recharge on or off."""
    if "stop" in request.POST:
        payments.stop_recharging(request.organization, by=request.user)
        messages.success(request, _("Auto-recharge is off."))
        return redirect("billing")
    form = RechargeForm(request.POST)
    if form.is_valid():
        try:
            payments.start_recharging(request.organization, by=request.user, **form.settings())
        except BillingError as error:
            form.add_error(None, _say(error))
        else:
            messages.success(request, _("Auto-recharge is on."))
            return redirect("billing")
    return render(request, "billing/billing.html", _context(request, recharge_form=form), status=422)


@member_required
@require_POST
def open_portal(request: MemberRequest) -> HttpResponse:
    """Lead to the provider's page for cards and receipts."""
    try:
        address = payments.portal_address(request.organization)
    except BillingError as error:
        messages.error(request, _say(error))
        address = None
    return redirect(address or "billing")


def _say(error: BillingError) -> str:
    if isinstance(error, PaymentsFrozen):
        return _("A payment of this organization is disputed, so it cannot pay now. Write to the operator of this site.")
    if isinstance(error, CardMissing):
        return _("There is no saved card: the first top-up saves one.")
    if isinstance(error, ProviderUnavailable):
        return _("The payment provider does not answer now. Try again in a minute.")
    if error.code == "recharge_invalid":
        least, most = money(settings.TOP_UP_MIN_CENTS * NANOS_PER_CENT), money(settings.TOP_UP_MAX_CENTS * NANOS_PER_CENT)
        return _("The amount must lie between %(least)s and %(most)s, and the ceiling must hold it.") % {"least": least, "most": most}
    return _("This site collects no money. Ask its operator for credit.")
