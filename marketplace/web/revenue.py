"""Revenue and payouts: what an organization's models earned, what of it was sent, and how it is paid."""

from typing import Any, Final

from django.conf import settings
from django.contrib import messages
from django.core.cache import cache
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from billing.errors import BillingError, OnboardingNotStarted, PaymentsOff, ProviderUnavailable
from billing.models import PayoutAccount
from billing.payable import payable_of
from billing.payouts import find_obstacle
from billing.providers import collects_money
from billing.statements import months_of, statement_of
from marketplace import payouts
from marketplace.revenue import find_month, render_csv
from marketplace.web.access import MemberRequest, member_required

_SHOWN: Final = 50
# Who comes back from the form has Stripe asked at most this often (s).
_ASK_EVERY_S: Final = 8


@require_safe
@member_required
def show_revenue(request: MemberRequest) -> HttpResponse:
    """Show what was earned, what can be sent and what was, and whether the organization can be paid."""
    account = request.organization.account
    payee = PayoutAccount.objects.select_related("account").filter(account=account).first()
    context: dict[str, Any] = {
        "payments": settings.PAYMENTS if collects_money() else "offline",
        "payables": payable_of(account, now=timezone.now()),
        "payee": payee,
        "obstacle": find_obstacle(payee) if payee else "not_onboarded",
        "countries": settings.PAYOUT_COUNTRIES,
        "terms": {
            "interval": settings.PAYOUT_INTERVAL,
            "hold_days": settings.PAYOUT_HOLD_DAYS,
            "reserve_percent": settings.PAYOUT_RESERVE_PERCENT,
            "reserve_days": settings.PAYOUT_RESERVE_DAYS,
            "minimum_cents": settings.PAYOUT_MIN_CENTS,
        },
        "payouts": account.payouts.prefetch_related("reversals").order_by("-created_at")[:_SHOWN],
        "months": months_of(account)[:_SHOWN],
        "bank_payouts": account.bank_payouts.order_by("-created_at")[:_SHOWN],
    }
    return render(request, "revenue/revenue.html", context)


@require_safe
@member_required
def show_statement(request: MemberRequest) -> HttpResponse:
    """Show a month's statement, as a page or with `format=csv` as a file; by default this month's."""
    month = find_month(request.GET.get("month", ""), now=timezone.now())
    if month is None:
        raise Http404
    sheet = statement_of(request.organization.account, month=month)
    if request.GET.get("format") == "csv":
        headers = {"Content-Disposition": f'attachment; filename="statement-{sheet.month:%Y-%m}.csv"'}
        return HttpResponse(render_csv(sheet), content_type="text/csv; charset=utf-8", headers=headers)
    return render(request, "revenue/statement.html", {"sheet": sheet})


@member_required
@require_POST
def set_up(request: MemberRequest) -> HttpResponse:
    """Lead to the payment provider's form, on which the organization says who it is and where its bank is."""
    try:
        address = payouts.set_up_payouts(request.organization, country=request.POST.get("country", ""), by=request.user)
    except (BillingError, ValueError) as error:
        messages.error(request, _say(error))
        address = None
    else:
        if address is None:
            messages.info(request, _("The payment provider does not answer now. Your account is being made; try again in a minute."))
    return redirect(address or "revenue")


@require_safe
@member_required
def continue_set_up(request: MemberRequest) -> HttpResponse:
    """Lead to a fresh form: each link works once, and the payment provider sends people here whose link does not."""
    try:
        return redirect(payouts.onboarding_address(request.organization))
    except BillingError as error:
        messages.error(request, _say(error))
        return redirect("revenue")


@require_safe
@member_required
def finish_set_up(request: MemberRequest) -> HttpResponse:
    """Ask how far the organization is, and show it: where the form leads back to. Coming here enables nothing by itself."""
    if cache.add(f"payee_asked:{request.organization.pk}", 1, _ASK_EVERY_S):
        payouts.look_at_onboarding(request.organization)
    return redirect("revenue")


def _say(error: Exception) -> str:
    if isinstance(error, ProviderUnavailable):
        return _("The payment provider does not answer now. Try again in a minute.")
    if isinstance(error, OnboardingNotStarted):
        return _("Choose your country first.")
    if isinstance(error, PaymentsOff):
        return _("This site collects no money, so it pays nobody.")
    if isinstance(error, ValueError):
        return _("Choose one of the countries of the list.")
    return _("The payment provider refused: %(reason)s") % {"reason": error}
