"""`/v1/revenue` and `/v1/payouts`: what an organization's models earned, and what of it was sent."""

from django.http import HttpResponse
from django.http.response import HttpResponseBase
from django.utils import timezone
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from billing import models
from billing.ids import parse_public_id
from billing.models import PayoutAccount, Price
from billing.payable import payable_of
from billing.payouts import find_obstacle
from billing.statements import statement_of
from marketplace.api.authentication import tenant_of
from marketplace.api.documented import operation
from marketplace.api.endpoint import Endpoint, read_query
from marketplace.api.fields import Amount, Cents, Constant, Form, Moment, PublicId, View
from marketplace.api.lists import list_of, page_form, read_page, render_list
from marketplace.api.organization import check_live
from marketplace.errors import NotFound, RequestMalformed
from marketplace.revenue import find_month, render_csv

TAG = "Revenue"


class RevenueBalanceView(View):
    """A provider's money in one currency. payable = balance - on_hold - disputed - unpaid - reserve, at least 0."""

    currency = serializers.CharField()
    balance = Amount(help_text="What you are owed; below zero, what you owe.")
    earned = Amount(help_text="All shares, less what was taken back.")
    paid = Amount(help_text="Sent to you, less what came back.")
    on_hold = Amount(help_text="Too young: a refund may yet take it back.")
    disputed = Amount(help_text="Of calls paid with money that is disputed now.")
    unpaid = Amount(help_text="Of calls on invoices that their customers have not paid.")
    reserve = Amount(help_text="Kept back against later disputes.")
    payable = Amount(source="nanos", help_text="What the next payout may send, in whole cents.")


class StatementLineView(View):
    """What one version at one price brought in the month. charge + refunds = fee + share, exactly."""

    sku = serializers.CharField(help_text="owner/model@version")
    price = serializers.CharField(source="price_id.hex", help_text="The price's id, as receipts name it.")
    unit = serializers.ChoiceField(choices=Price.Unit.values)
    currency = serializers.CharField()
    calls = serializers.IntegerField(source="events", help_text="Less refunded ones, as are units.")
    units = serializers.IntegerField()
    charge = Amount(help_text="Before refunds.")
    refunds = Amount(help_text="0 or less.")
    fee_basis_points = serializers.IntegerField(help_text="What the site keeps, in hundredths of a percent.")
    fee = Amount()
    share = Amount()


class RevenueView(View):
    """What an organization's models earned: all in all, and in one month."""

    object = Constant("revenue")
    month = serializers.CharField(help_text="Of the lines, such as 2026-11, UTC.")
    payouts_status = serializers.ChoiceField(
        choices=["ready", "not_onboarded", "held", "suspended"], help_text="Whether payouts are sent to you, or why not."
    )
    requirements_due = serializers.ListField(
        child=serializers.CharField(), help_text="What the payment provider still asks of you, in its words."
    )
    balances = RevenueBalanceView(many=True)
    lines = StatementLineView(many=True)


class RevenueQuery(Form):
    """Which month, and how."""

    month = serializers.CharField(required=False, default="", max_length=7, help_text="Such as 2026-11, UTC; by default this month.")
    format = serializers.ChoiceField(choices=["json", "csv"], required=False, help_text="As `Accept: text/csv`.")


class PayoutView(View):
    """Money sent to the organization."""

    object = Constant("payout")
    id = PublicId("pay")
    amount = Cents(source="amount_cents")
    currency = serializers.CharField()
    status = serializers.ChoiceField(choices=["waiting", "paid", "failed"], help_text="What failed is in the balance again.")
    transfer = serializers.CharField(source="transfer_id", help_text="The payment provider's id; empty until it has answered.")
    came_back = Amount(source="came_back_nanos", help_text="What of it was reversed.")
    failure = serializers.CharField(help_text="The payment provider's reason, where it failed.")
    created_at = Moment()
    settled_at = Moment(allow_null=True)


PayoutsQuery = page_form("pay", "PayoutsQuery")


class Revenue(Endpoint):
    """The organization's revenue."""

    scope = {"GET": "billing:read"}

    @operation(
        "get_revenue",
        summary="Show revenue",
        tag=TAG,
        query=RevenueQuery,
        answers=RevenueView,
        refusals=["request_malformed"],
        is_csv_too=True,
    )
    def get(self, request: Request) -> HttpResponseBase:
        """Show what the organization's models earned, what of it can be sent, and a month's statement; that as CSV, too."""
        check_live(request)
        query = read_query(request, RevenueQuery).validated_data
        now = timezone.now()
        month = find_month(query["month"], now=now)
        if month is None:
            message = "A month is written as 2026-11."
            raise RequestMalformed(message, param="month")
        account = tenant_of(request).account
        sheet = statement_of(account, month=month)
        if query.get("format") == "csv" or (not query.get("format") and "text/csv" in request.headers.get("Accept", "")):
            headers = {"Content-Disposition": f'attachment; filename="statement-{sheet.month:%Y-%m}.csv"'}
            return HttpResponse(render_csv(sheet), content_type="text/csv; charset=utf-8", headers=headers)
        payee = PayoutAccount.objects.select_related("account").filter(account=account).first()
        fields = {
            "payouts_status": (find_obstacle(payee) or "ready") if payee else "not_onboarded",
            "requirements_due": payee.requirements_due if payee else [],
            "balances": payable_of(account, now=now),
            "month": f"{sheet.month:%Y-%m}",
            "lines": sheet.lines,
        }
        return Response(RevenueView(fields).data)


class Payouts(Endpoint):
    """What was sent."""

    scope = {"GET": "billing:read"}

    @operation(
        "list_payouts",
        summary="List payouts",
        tag=TAG,
        query=PayoutsQuery,
        answers=list_of(PayoutView, "PayoutList"),
        refusals=["request_malformed"],
    )
    def get(self, request: Request) -> Response:
        """List payouts, the newest first."""
        check_live(request)
        query = read_query(request, PayoutsQuery).validated_data
        page = read_page(tenant_of(request).account.payouts.prefetch_related("reversals"), query, by="created_at")
        return Response(render_list(page, request, PayoutView(page.rows, many=True).data))


class Payout(Endpoint):
    """One payout."""

    scope = {"GET": "billing:read"}

    @operation("get_payout", summary="Show a payout", tag=TAG, answers=PayoutView, refusals=["not_found"])
    def get(self, request: Request, payout_id: str) -> Response:
        """Show how far a payout is."""
        check_live(request)
        identity = parse_public_id("pay", payout_id)
        payouts = tenant_of(request).account.payouts.prefetch_related("reversals")
        payout: models.Payout | None = payouts.filter(pk=identity).first() if identity else None
        if payout is None:
            raise NotFound
        return Response(PayoutView(payout).data)
