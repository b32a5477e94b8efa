"""`/v1/keys`: the caller's organization's keys. Secrets are shown once, at birth."""

from typing import Any

from django.db import transaction
from django.db.models import QuerySet
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from billing.ids import parse_public_id
from marketplace import keys
from marketplace.api.authentication import key_of, tenant_of
from marketplace.api.documented import operation
from marketplace.api.endpoint import Endpoint, OpenEndpoint, read_body, read_query
from marketplace.api.fields import Amount, Constant, Flag, Form, Moment, PublicId, Text, View, Whole
from marketplace.api.limits import admit_address, rate_headers
from marketplace.api.lists import list_of, page_form, read_page, render_list
from marketplace.errors import NotFound
from marketplace.models import ApiKey

TAG = "Keys"


class KeyView(View):
    """A key as it may be shown."""

    object = Constant("key")
    id = PublicId("key")
    name = serializers.CharField()
    masked = serializers.CharField(help_text="Its start and its last four characters.")
    kind = serializers.ChoiceField(choices=ApiKey.Kind.choices)
    livemode = serializers.BooleanField()
    scopes = serializers.ListField(child=serializers.CharField())
    allowed_models = serializers.ListField(child=serializers.CharField(), help_text="Empty allows all.")
    allowed_cidrs = serializers.ListField(child=serializers.CharField(), help_text="Empty allows all.")
    rate_per_minute = serializers.IntegerField(allow_null=True)
    monthly_cap = Amount(source="monthly_cap_nanos", allow_null=True)
    currency = serializers.CharField(source="organization.account.currency")
    created_at = Moment()
    expires_at = Moment(allow_null=True)
    revoked_at = Moment(allow_null=True)
    last_used_at = Moment(allow_null=True)


class FreshKeyView(KeyView):
    """A key just made, with its secret: the one time that it is shown."""

    secret = serializers.CharField()


class KeyForm(Form):
    """A key to be made."""

    name = Text(max_length=80)
    kind = serializers.ChoiceField(choices=ApiKey.Kind.choices, default=ApiKey.Kind.SECRET)
    livemode = Flag(default=True)
    scopes = serializers.ListField(child=Text(max_length=40), default=list, help_text=f"Of a restricted key: {', '.join(keys.SCOPES)}.")
    allowed_models = serializers.ListField(child=Text(max_length=81), default=list)
    allowed_cidrs = serializers.ListField(child=Text(max_length=50), default=list)
    rate_per_minute = Whole(allow_null=True, default=None, min_value=1, max_value=2**31 - 1)
    monthly_cap = Amount(allow_null=True, default=None)
    expires_at = Moment(allow_null=True, default=None)


class KeyPatch(Form):
    """What can be changed of a key. For anything else make another."""

    name = Text(max_length=80, required=False)
    monthly_cap = Amount(allow_null=True, required=False)


class RotateForm(Form):
    """How long the old secret still works."""

    grace = serializers.ChoiceField(choices=list(keys.ROTATION_GRACES), default="0")


class RevokeForm(Form):
    """A key that somebody found."""

    key = Text(max_length=200, help_text="Its whole text.")


KeysQuery = page_form("key", "KeysQuery")


def _visible(request: Request) -> QuerySet[ApiKey]:
    """The keys the caller may see: a test key none of the live ones."""
    rows = tenant_of(request).keys.issued().select_related("organization__account")
    return rows if key_of(request).livemode else rows.filter(livemode=False)


def _find(request: Request, key_id: str) -> ApiKey:
    value = parse_public_id("key", key_id)
    key = _visible(request).filter(pk=value).first() if value else None
    if key is None:
        raise NotFound
    return key


def _fresh(key: ApiKey, secret: str) -> Response:
    return Response({**KeyView(key).data, "secret": secret}, status=201)


class Keys(Endpoint):
    """All keys."""

    scope = {"GET": "keys:read", "POST": "keys:write"}

    @operation(
        "list_keys", summary="List keys", tag=TAG, query=KeysQuery, answers=list_of(KeyView, "KeyList"), refusals=["request_malformed"]
    )
    def get(self, request: Request) -> Response:
        """List the organization's keys, the newest first, with those revoked or expired."""
        query = read_query(request, KeysQuery).validated_data
        page = read_page(_visible(request), query, by="created_at")
        return Response(render_list(page, request, KeyView(page.rows, many=True).data))

    @operation(
        "create_key",
        summary="Create a key",
        tag=TAG,
        takes=KeyForm,
        answers=FreshKeyView,
        status=201,
        refusals=["request_malformed", "key_setting_invalid", "key_expiry_in_past", "key_limit_reached", "body_too_large"],
    )
    def post(self, request: Request) -> Response:
        """Create a key. It can be given no more than the key that makes it has."""
        fields: dict[str, Any] = read_body(request, KeyForm).validated_data
        name, cap_nanos = fields.pop("name"), fields.pop("monthly_cap")
        kind = ApiKey.Kind(fields.pop("kind"))
        settings = keys.KeySettings(kind=kind, monthly_cap_nanos=cap_nanos, **fields)
        key, secret = keys.issue_key(organization=tenant_of(request), name=name, settings=settings, by=key_of(request))
        return _fresh(key, secret)


class Key(Endpoint):
    """One key."""

    scope = {"GET": "keys:read", "PATCH": "keys:write", "DELETE": "keys:write"}

    @operation("get_key", summary="Show a key", tag=TAG, answers=KeyView, refusals=["not_found"])
    def get(self, request: Request, key_id: str) -> Response:
        """Show one key."""
        return Response(KeyView(_find(request, key_id)).data)

    @operation(
        "update_key",
        summary="Rename a key, or change its cap",
        tag=TAG,
        takes=KeyPatch,
        answers=KeyView,
        refusals=["not_found", "request_malformed", "body_too_large"],
    )
    def patch(self, request: Request, key_id: str) -> Response:
        """Change a key's name or monthly cap; null lifts the cap."""
        key = _find(request, key_id)
        fields: dict[str, Any] = read_body(request, KeyPatch).validated_data
        with transaction.atomic():
            if "name" in fields:
                keys.rename_key(key, name=fields["name"], by=key_of(request))
            if "monthly_cap" in fields:
                keys.set_monthly_cap(key, cap_nanos=fields["monthly_cap"], by=key_of(request))
        return Response(KeyView(key).data)

    @operation("revoke_key", summary="Revoke a key", tag=TAG, answers=KeyView, refusals=["not_found"])
    def delete(self, request: Request, key_id: str) -> Response:
        """Revoke a key: within a second it fails everywhere. Revoking it again changes nothing."""
        key = _find(request, key_id)
        keys.revoke_key(key, by=key_of(request))
        key.refresh_from_db()
        return Response(KeyView(key).data)


class KeyRotation(Endpoint):
    """One key's replacement."""

    scope = {"POST": "keys:write"}

    @operation(
        "rotate_key",
        summary="Rotate a key",
        tag=TAG,
        takes=RotateForm,
        answers=FreshKeyView,
        status=201,
        refusals=["not_found", "request_malformed", "key_not_live", "key_limit_reached", "body_too_large"],
    )
    def post(self, request: Request, key_id: str) -> Response:
        """Make a key with the same settings; the old one works for `grace` longer."""
        key = _find(request, key_id)
        grace = keys.ROTATION_GRACES[read_body(request, RotateForm).validated_data["grace"]]
        fresh, secret = keys.rotate_key(key, grace=grace, by=key_of(request))
        return _fresh(fresh, secret)


class KeyRevocation(OpenEndpoint):
    """A leaked key's end, at the hands of whoever found it."""

    @operation(
        "revoke_leaked_key",
        summary="Revoke a key by its text",
        tag=TAG,
        takes=RevokeForm,
        answers=None,
        status=204,
        refusals=["request_malformed", "key_malformed", "key_mistyped", "key_unknown", "body_too_large"],
        is_open=True,
    )
    def post(self, request: Request) -> Response:
        """Revoke the key in the body. Whoever holds a key may end it; no other authorization is needed."""
        self.rates = rate_headers("address", admit_address(request))
        keys.revoke_leaked_key(read_body(request, RevokeForm).validated_data["key"])
        return Response(status=204)
