"""`/v1/top-ups` and `/v1/payment-methods`: buying credit, and the saved cards."""

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from billing import models
from billing.customers import saved_cards
from billing.errors import CardMissing
from billing.ids import parse_public_id
from billing.money import NANOS_PER_CENT
from marketplace import payments
from marketplace.api.authentication import key_of, tenant_of
from marketplace.api.documented import operation
from marketplace.api.endpoint import Endpoint, read_body, read_query
from marketplace.api.fields import Amount, Cents, Constant, Form, Moment, PublicId, View
from marketplace.api.lists import list_of, page_form, read_page, render_list
from marketplace.api.organization import check_live
from marketplace.errors import NotFound, RequestMalformed

TAG = "Billing"


class TopUpView(View):
    """Credit being bought, or bought."""

    object = Constant("top_up")
    id = PublicId("top")
    amount = Cents(source="amount_cents")
    currency = serializers.CharField()
    status = serializers.ChoiceField(
        choices=["created", "open", "processing", "paid", "failed", "expired"], help_text="The credit is there with `paid`, never before."
    )
    source = serializers.ChoiceField(  # type: ignore[assignment]  # A field here, an argument of serializers.
        choices=["checkout", "auto"], help_text="Who started it: a person, or auto-recharge."
    )
    checkout_url = serializers.CharField(help_text="Where a person pays; empty while there is no such page.")
    failure = serializers.CharField(help_text="The payment provider's code, where it failed.")
    created_at = Moment()
    settled_at = Moment(allow_null=True)


class TopUpForm(Form):
    """A new top-up."""

    amount = Amount(help_text="In the account's currency, whole cents.")


class PaymentMethodView(View):
    """A saved card: enough to tell it from others."""

    object = Constant("payment_method")
    id = serializers.CharField(source="card_id")
    brand = serializers.CharField()
    last4 = serializers.CharField()
    exp_month = serializers.IntegerField()
    exp_year = serializers.IntegerField()


TopUpsQuery = page_form("top", "TopUpsQuery")


class TopUps(Endpoint):
    """The organization's top-ups."""

    scope = {"GET": "billing:read", "POST": "billing:write"}

    @operation(
        "list_top_ups",
        summary="List top-ups",
        tag=TAG,
        query=TopUpsQuery,
        answers=list_of(TopUpView, "TopUpList"),
        refusals=["request_malformed"],
    )
    def get(self, request: Request) -> Response:
        """List top-ups, the newest first."""
        check_live(request)
        query = read_query(request, TopUpsQuery).validated_data
        page = read_page(tenant_of(request).account.top_ups.all(), query, by="created_at")
        return Response(render_list(page, request, TopUpView(page.rows, many=True).data))

    @operation(
        "create_top_up",
        summary="Start a top-up",
        tag=TAG,
        takes=TopUpForm,
        answers=TopUpView,
        status=201,
        refusals=["request_malformed", "top_up_out_of_range", "payments_off", "payments_frozen"],
    )
    def post(self, request: Request) -> Response:
        """Start buying credit: a person pays at `checkout_url`. Where that is still empty, ask again in some seconds."""
        check_live(request)
        amount = read_body(request, TopUpForm).validated_data["amount"]
        if amount % NANOS_PER_CENT:
            message = "A payment has whole cents."
            raise RequestMalformed(message, param="amount")
        top_up = payments.buy_credit(tenant_of(request), amount // NANOS_PER_CENT, by=key_of(request))
        return Response(TopUpView(top_up).data, status=201)


class TopUp(Endpoint):
    """One top-up."""

    scope = {"GET": "billing:read"}

    @operation("get_top_up", summary="Show a top-up", tag=TAG, answers=TopUpView, refusals=["not_found"])
    def get(self, request: Request, top_up_id: str) -> Response:
        """Show how far a top-up is."""
        check_live(request)
        identity = parse_public_id("top", top_up_id)
        top_up = tenant_of(request).account.top_ups.filter(pk=identity).first() if identity else None
        if top_up is None:
            raise NotFound
        return Response(TopUpView(top_up).data)


class PaymentMethods(Endpoint):
    """The saved cards."""

    scope = {"GET": "billing:read"}

    @operation("list_payment_methods", summary="List saved cards", tag=TAG, answers=list_of(PaymentMethodView, "PaymentMethodList"))
    def get(self, request: Request) -> Response:
        """List the saved cards, the one that is charged first before the others."""
        check_live(request)
        cards: list[models.Card] = saved_cards(tenant_of(request).account)
        rows = PaymentMethodView(cards, many=True).data
        return Response({"object": "list", "data": rows, "has_more": False, "url": request.path})


class PaymentMethod(Endpoint):
    """One saved card."""

    scope = {"DELETE": "billing:write"}

    @operation("delete_payment_method", summary="Remove a saved card", tag=TAG, answers=None, status=204, refusals=["not_found"])
    def delete(self, request: Request, card_id: str) -> Response:
        """Forget a card: here at once, at the payment provider some seconds later."""
        check_live(request)
        try:
            payments.forget_card(tenant_of(request), card_id, by=key_of(request))
        except CardMissing:
            raise NotFound from None
        return Response(status=204)
