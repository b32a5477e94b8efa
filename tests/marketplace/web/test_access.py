import re
from datetime import timedelta
from uuid import UUID

import pytest
from django.test import Client
from django.urls import URLPattern, reverse
from django.utils import timezone

from billing.ids import public_id
from billing.invoicing import close_period
from billing.models import TopUp
from billing.periods import month_of
from billing.plans import make_plan
from billing.subscriptions import subscribe
from marketplace.models import ApiKey, CatalogueModel, ModelVersion, Organization, User
from marketplace.tenants import found_organization
from marketplace.web.urls import urlpatterns
from marketplace.webhooks.endpoints import register_endpoint
from tests.marketplace.jobs import queue_batch, queue_prediction
from tests.marketplace.web.recorded import record_call

OPEN = {
    "landing",
    "playground_key",
    "mail",
    "choose_organization",
    "models",
    "model",
    "model_picture",
    "docs",
    "stripe_webhooks",
    "error_docs",
    "error_doc",
}
# A page of each address that names something of a tenant, with the names that make it foreign or absent.
# Forms that a member sends: a GET does nothing.
SENT = {"billing_buy", "billing_card", "billing_recharge", "billing_portal", "revenue_set_up"}
# What only leads on: a member who was sent there by the payment provider sees the page behind it.
LED = {"revenue_set_up_again": "revenue", "revenue_set_up_done": "revenue"}
OWNED = {
    *(
        "budget",
        "top_up",
        "key",
        "key_cap",
        "key_rotate",
        "key_revoke",
        "request",
        "invoice",
        "invoice_calls",
        "invoice_events",
        "invoice_lines",
        "invoice_pdf",
    ),
    *("prediction", "prediction_state", "prediction_cancel", "batch", "batch_state", "batch_cancel", "batch_results"),
    *("plan_confirm", "subscription_cancel", "subscription_resume"),
    *("webhook", "webhook_deliveries", "webhook_rotate", "webhook_test", "webhook_switch", "webhook_delete", "webhook_resend"),
}
# A provider's own models and versions, by the names that they have within the organization.
OWN_MODELS = {
    "publish_model": 1,
    "publish_new_version": 1,
    "publish_plans": 1,
    "publish_plan_retire": 2,
    "publish_version": 2,
    "publish_state": 2,
    "publish_live": 2,
    "publish_price": 2,
    "publish_retire": 2,
}
MEMBERS = sorted(
    str(pattern.name)
    for pattern in urlpatterns
    if isinstance(pattern, URLPattern) and pattern.name not in OPEN | OWNED | OWN_MODELS.keys() | SENT | LED.keys()
)
POSTED = {
    *("budget", "key_cap", "key_rotate", "prediction_cancel", "batch_cancel", "subscription_resume"),
    *("webhook_rotate", "webhook_test", "webhook_switch", "webhook_delete", "webhook_resend"),
}


def address(name: str, identity: str) -> str:
    """Return the address of a page that names something."""
    return reverse(name, args=[identity, "whd_0000000000000000000000"] if name == "webhook_resend" else [identity])


def test_the_matrix_below_covers_every_address() -> None:
    names = {pattern.name for pattern in urlpatterns}

    assert names == OPEN | OWNED | OWN_MODELS.keys() | SENT | LED.keys() | set(MEMBERS)


@pytest.mark.django_db
@pytest.mark.parametrize("name", [*MEMBERS, *sorted(SENT), *LED])
def test_a_stranger_is_sent_to_sign_in(client: Client, name: str) -> None:
    reply = client.get(reverse(name))

    assert (reply.status_code, reply["Location"].split("?")[0]) == (302, reverse("account_login"))


@pytest.mark.django_db
@pytest.mark.parametrize("name", sorted(OWNED))
def test_a_stranger_learns_nothing_about_an_id(client: Client, name: str, foreign_key: ApiKey) -> None:
    there = client.get(address(name, public_id("key", foreign_key.pk)))
    absent = client.get(address(name, "nothing"))

    assert there.status_code == absent.status_code in {302, 405}


@pytest.mark.parametrize("name", MEMBERS)
def test_a_member_sees_every_page_of_an_empty_organization(member: Client, name: str) -> None:
    reply = member.get(reverse(name))

    assert reply.status_code == 200
    assert "no-store" in reply["Cache-Control"]


@pytest.mark.parametrize("name", sorted(SENT))
def test_a_form_is_only_sent(member: Client, name: str) -> None:
    assert member.get(reverse(name)).status_code == 405


@pytest.mark.parametrize(("name", "behind"), LED.items())
def test_a_member_is_led_on(member: Client, name: str, behind: str) -> None:
    reply = member.get(reverse(name))

    assert (reply.status_code, reply["Location"]) == (302, reverse(behind))


@pytest.mark.parametrize("name", sorted(OWNED))
def test_a_foreign_id_answers_as_an_absent_one(member: Client, name: str, foreign_key: ApiKey, sentiment: ModelVersion) -> None:
    call = record_call(foreign_key, sentiment)
    invoice = _close_a_month(foreign_key, sentiment)
    top_up = TopUp.objects.create(account=foreign_key.organization.account, amount_cents=1, currency="usd", source="checkout", by="test")
    plan, subscription = _foreign_plan(foreign_key)
    prefix = name.split("_", maxsplit=1)[0]
    foreign, absent = {
        "budget": (f"{public_id('key', foreign_key.pk)}_day", f"{public_id('key', call.pk)}_day"),
        "key": (public_id("key", foreign_key.pk), public_id("key", call.pk)),
        "request": (public_id("req", call.pk), public_id("req", foreign_key.pk)),
        "prediction": (public_id("prd", queue_prediction(foreign_key, sentiment).pk), public_id("prd", call.pk)),
        "batch": (public_id("bat", queue_batch(foreign_key, sentiment, rows=1).pk), public_id("bat", call.pk)),
        "webhook": (public_id("whe", _foreign_endpoint(foreign_key)), public_id("whe", call.pk)),
        "invoice": (invoice, "209901-000000000000"),
        "plan": (plan, public_id("plan", call.pk)),
        "subscription": (subscription, public_id("sub", call.pk)),
        "top": (public_id("top", top_up.pk), public_id("top", foreign_key.pk)),
    }[prefix]
    ask = member.post if name in POSTED else member.get

    replies = [ask(address(name, identity)) for identity in (foreign, absent)]

    assert [reply.status_code for reply in replies] == [404, 404]
    assert _plain(replies[0].content, foreign) == _plain(replies[1].content, absent)


def _foreign_plan(key: ApiKey) -> tuple[str, str]:
    """A plan of somebody's private model, and their subscription."""
    owner = key.organization
    model = CatalogueModel.objects.create(owner=owner, name="private", title="Private", summary="", task="x")
    plan = make_plan(scope=model.path, code="p", name="P", fee_nanos=0, unit="call", included_units=1, quota="hard", by="test")
    return public_id("plan", plan.pk), public_id("sub", subscribe(owner.account, plan, by="test").pk)


def _foreign_endpoint(key: ApiKey) -> UUID:
    endpoint, _ = register_endpoint(key.organization, url="https://hooks.example/", events=["*"], description="", by="test")
    pk: UUID = endpoint.pk
    return pk


def _close_a_month(key: ApiKey, version: ModelVersion) -> str:
    last_month = month_of(month_of(timezone.now())[0] - timedelta(days=1))[0]
    record_call(key, version, at=last_month + timedelta(days=3))
    return close_period(key.organization.account, last_month, now=month_of(timezone.now())[0] + timedelta(hours=2)).number


def _plain(content: bytes, identity: str) -> str:
    """The page without what differs between any two requests: tokens, nonces, the address itself."""
    text = re.sub(r'(value|nonce)="[^"]*"', "", content.decode())
    return text.replace(identity, "ID")


@pytest.mark.parametrize("name", sorted(OWN_MODELS))
def test_a_strangers_model_is_absent_from_the_providers_pages(
    member: Client, client: Client, other_organization: Organization, name: str
) -> None:
    model = CatalogueModel.objects.create(owner=other_organization, name="theirs", title="Theirs", summary="", task="x", public=True)
    version = ModelVersion.objects.create(model=model, number=1, state="live", folder="x", digest="0" * 64, size_bytes=1)
    places = [("theirs", 1), ("absent", 1)]

    for ask in (member.get, member.post):
        replies = [ask(reverse(name, args=place[: OWN_MODELS[name]])) for place in places]
        assert {reply.status_code for reply in replies} <= {404, 405}
        assert _plain(replies[0].content, "theirs") == _plain(replies[1].content, "absent")
    assert Client().get(reverse(name, args=places[0][: OWN_MODELS[name]])).status_code in {302, 405}
    version.refresh_from_db()
    assert (version.state, model.versions.count()) == ("live", 1)


def test_revoking_a_foreign_key_changes_nothing(member: Client, foreign_key: ApiKey) -> None:
    reply = member.post(reverse("key_revoke", args=[public_id("key", foreign_key.pk)]))

    foreign_key.refresh_from_db()
    assert (reply.status_code, foreign_key.revoked_at) == (404, None)


def test_a_private_model_is_absent_for_others(member: Client, client: Client, other_organization: Organization) -> None:
    CatalogueModel.objects.create(owner=other_organization, name="secret", title="Secret", summary="", task="x")

    assert member.get("/models/other/secret/").status_code == 404
    assert member.get("/models/other/absent/").status_code == 404


def test_lists_show_nothing_of_others(member: Client, foreign_key: ApiKey, sentiment: ModelVersion) -> None:
    call = record_call(foreign_key, sentiment)

    pages = [member.get(reverse(name)).content.decode() for name in ("keys", "requests", "usage", "invoices", "dashboard")]

    assert not [page for page in pages if "theirs" in page or public_id("req", call.pk) in page]


def test_who_belongs_to_no_organization_is_told_so(client: Client, operator: User) -> None:
    client.force_login(operator)

    assert client.get(reverse("dashboard")).status_code == 403


def test_a_person_works_in_the_organization_they_choose(member: Client, user: User) -> None:
    found_organization(name="Second", slug="second", owner=user, by=user)

    member.post(reverse("choose_organization"), {"organization": "second"})

    assert member.get(reverse("dashboard")).wsgi_request.organization.slug == "second"  # type: ignore[attr-defined]


def test_nobody_chooses_an_organization_they_are_not_in(member: Client, other_organization: Organization) -> None:
    reply = member.post(reverse("choose_organization"), {"organization": other_organization.slug})

    assert reply.status_code == 404
    assert member.get(reverse("dashboard")).wsgi_request.organization.slug == "acme"  # type: ignore[attr-defined]
