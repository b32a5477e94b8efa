"""`/v1/credit-grants`: the credit that is left, grant by grant, in the order in which it is used."""

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from billing.expiring import list_grants
from billing.models import CreditGrant
from marketplace.api.authentication import tenant_of
from marketplace.api.documented import operation
from marketplace.api.endpoint import Endpoint
from marketplace.api.fields import Amount, Constant, Moment, PublicId, View
from marketplace.api.lists import list_of
from marketplace.api.organization import check_live

TAG = "Billing"


class CreditGrantView(View):
    """Credit that was given, and what of it is left. amount = used + left + expired."""

    object = Constant("credit_grant")
    id = PublicId("crd", source="grant.pk")
    kind = serializers.CharField(source="grant.kind", help_text=f"Where it came from: {', '.join(CreditGrant.Kind.values)}.")
    amount = Amount(source="grant.amount_nanos")
    used = Amount(source="used_nanos", help_text="Spent, or gone with the payment that had bought it.")
    left = Amount(source="left_nanos", help_text="What running calls hold counts as left.")
    expired = Amount(source="expired_nanos", help_text="What was unspent when it expired, and left.")
    currency = serializers.CharField(source="grant.account.currency")
    priority = serializers.IntegerField(
        source="grant.priority", help_text="0 is used first, 100 last; then what expires sooner, then what is older."
    )
    expires_at = Moment(source="grant.expires_at", allow_null=True, help_text="null: never.")
    created_at = Moment(source="grant.created_at")


class CreditGrants(Endpoint):
    """The organization's credit by grant."""

    scope = {"GET": "billing:read"}

    @operation("list_credit_grants", summary="List credit by grant", tag=TAG, answers=list_of(CreditGrantView, "CreditGrantList"))
    def get(self, request: Request) -> Response:
        """List the grants that have anything left, the one that is used next first."""
        check_live(request)
        states = [state for state in list_grants(tenant_of(request).account) if state.left_nanos]
        return Response({"object": "list", "data": CreditGrantView(states, many=True).data, "has_more": False, "url": request.path})
