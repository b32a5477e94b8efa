"""`/v1/organization` and `/v1/balance`: who the caller is, and what it may still spend."""

from django.conf import settings
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from billing.ledger import balance
from billing.providers import collects_money
from marketplace.api.authentication import key_of, tenant_of
from marketplace.api.documented import operation
from marketplace.api.endpoint import Endpoint
from marketplace.api.fields import Amount, Cents, Constant, Moment, PublicId, View
from marketplace.errors import ScopeMissing

TAG = "Organization"


class BalanceView(View):
    """Prepaid credit. available = granted - spent - held."""

    object = Constant("balance")
    granted = Amount()
    spent = Amount(help_text="Settled, less refunds.")
    held = Amount(help_text="Set aside for calls that run now; what they do not use comes back.")
    available = Amount()
    currency = serializers.CharField()
    top_up_minimum = Cents(allow_null=True, help_text="Smallest top-up; null where this site collects no money.")
    top_up_maximum = Cents(allow_null=True, help_text="Largest top-up; likewise.")


class OrganizationView(View):
    """The caller's organization."""

    object = Constant("organization")
    id = PublicId("org")
    name = serializers.CharField()
    slug = serializers.CharField(help_text="The owner in owner/model.")
    created_at = Moment()
    first_call_at = Moment(allow_null=True)
    response_cache = serializers.BooleanField(help_text="Whether answers are kept for the same input; set on the organization's page.")


class Organization(Endpoint):
    """The caller's organization."""

    scope = {"GET": "organization:read"}

    @operation("get_organization", summary="Show the organization", tag=TAG, answers=OrganizationView)
    def get(self, request: Request) -> Response:
        """Show the organization that the key belongs to."""
        return Response(OrganizationView(tenant_of(request)).data)


class Balance(Endpoint):
    """The caller's credit."""

    scope = {"GET": "organization:read"}

    @operation("get_balance", summary="Show the balance", tag=TAG, answers=BalanceView)
    def get(self, request: Request) -> Response:
        """Show what the organization was granted, has spent, and may still spend."""
        check_live(request)
        account = tenant_of(request).account
        now = balance(account)
        fields = {"granted": now.granted, "spent": now.spent, "held": now.held, "available": now.available, "currency": account.currency}
        limits = (settings.TOP_UP_MIN_CENTS, settings.TOP_UP_MAX_CENTS) if collects_money() else (None, None)
        fields |= dict(zip(("top_up_minimum", "top_up_maximum"), limits, strict=True))
        return Response(BalanceView(fields).data)


def check_live(request: Request) -> None:
    """Refuse a test key: it is never billed, and whoever finds it learns nothing of the money.

    Raises:
        ScopeMissing: it is one.
    """
    if not key_of(request).livemode:
        message = "A test key has no bill: use a live key."
        raise ScopeMissing(message)
