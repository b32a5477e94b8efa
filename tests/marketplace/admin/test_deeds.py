from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import IntegrityError
from django.test import Client
from django.urls import reverse

from billing.books import check_books
from billing.ledger import balance
from billing.models import CreditGrant, Price, UsageEvent, UsageRefund
from marketplace.models import ApiKey, AuditEvent, CatalogueModel, ControlChange, ModelVersion, Organization, User

FLAT = {"scheme": "flat", "currency": "usd"}


def deed(table: str, name: str, pk: Any) -> str:
    return reverse(f"admin:{table}_{name}", args=[pk])


def last_deed() -> tuple[str, str, str]:
    event = AuditEvent.objects.latest("sequence")
    return event.action, event.by, event.details.get("reason", "")


ORGANIZATION, VERSION = "marketplace_organization", "marketplace_modelversion"


def test_an_organization_is_suspended_with_a_reason_and_restored(desk: Client, organization: Organization) -> None:
    desk.post(deed(ORGANIZATION, "suspend", organization.pk), {"reason": "unpaid"})
    organization.refresh_from_db()
    assert organization.suspended_at is not None
    assert last_deed() == ("organization.suspended", "operator@example.com", "unpaid")

    desk.post(deed(ORGANIZATION, "restore", organization.pk))
    organization.refresh_from_db()
    assert organization.suspended_at is None
    assert last_deed()[0] == "organization.restored"
    assert ControlChange.objects.filter(subject="organization", reference=organization.pk.hex).count() == 2


def test_nothing_is_suspended_without_a_reason_or_by_looking(desk: Client, organization: Organization) -> None:
    assert desk.get(deed(ORGANIZATION, "suspend", organization.pk)).status_code == 200
    assert "required" in desk.post(deed(ORGANIZATION, "suspend", organization.pk), {"reason": " "}).content.decode()

    organization.refresh_from_db()
    assert organization.suspended_at is None


def test_credit_is_given_once_however_often_the_form_is_sent(desk: Client, organization: Organization) -> None:
    page = deed(ORGANIZATION, "give_credit", organization.pk)
    reference = desk.get(page).context["form"].initial["reference"]

    for _ in range(2):
        desk.post(page, {"amount": "12.50", "reason": "goodwill", "reference": reference})

    assert balance(organization.account).available == 12_500_000_000
    assert (CreditGrant.objects.count(), AuditEvent.objects.filter(action="credit.granted").count()) == (1, 1)
    assert last_deed() == ("credit.granted", "operator@example.com", "goodwill")
    assert check_books() == []


@pytest.mark.parametrize("amount", ["0", "-5", "many", "", "99999999999"])
def test_no_nonsense_is_granted(desk: Client, organization: Organization, amount: str) -> None:
    reply = desk.post(deed(ORGANIZATION, "give_credit", organization.pk), {"amount": amount, "reason": "r", "reference": "x"})

    assert reply.status_code == 200
    assert not CreditGrant.objects.exists()


def test_credit_can_be_given_with_a_last_day(desk: Client, organization: Organization) -> None:
    page = deed(ORGANIZATION, "give_credit", organization.pk)
    form = {"amount": "5", "reason": "trial", "reference": "trial"}

    desk.post(page, {**form, "last_day": "2020-01-31"})
    assert not CreditGrant.objects.exists()
    desk.post(page, {**form, "last_day": "2099-01-31"})

    assert CreditGrant.objects.get().expires_at == datetime(2099, 2, 1, tzinfo=UTC)


def test_credit_can_be_given_to_be_used_first(desk: Client, organization: Organization) -> None:
    page = deed(ORGANIZATION, "give_credit", organization.pk)
    form = {"amount": "5", "reason": "trial"}

    for reference, priority in (("bad", "101"), ("bad", "-1"), ("bad", "first"), ("first", "0"), ("usual", "")):
        desk.post(page, {**form, "reference": reference, "priority": priority})

    assert dict(CreditGrant.objects.values_list("reference", "priority")) == {"operator:first": 0, "operator:usual": 50}
    assert [event.details.get("priority") for event in AuditEvent.objects.filter(action="credit.granted").order_by("pk")] == ["0", None]


def test_a_reference_of_another_grant_is_told_and_grants_nothing(desk: Client, organization: Organization) -> None:
    page = deed(ORGANIZATION, "give_credit", organization.pk)
    desk.post(page, {"amount": "1", "reason": "r", "reference": "x"})

    reply = desk.post(page, {"amount": "2", "reason": "r", "reference": "x"})

    assert "belongs to another grant" in reply.content.decode()
    assert balance(organization.account).available == 10**9


def test_a_key_is_revoked(desk: Client, key: ApiKey) -> None:
    desk.post(deed("marketplace_apikey", "revoke", key.pk))

    key.refresh_from_db()
    assert key.revoked_at is not None
    assert last_deed()[:2] == ("key.revoked", "operator@example.com")


def test_a_call_is_refunded_once_and_the_books_hold(desk: Client, event: UsageEvent) -> None:
    before = balance(event.account).available

    for _ in range(2):
        desk.post(deed("billing_usageevent", "give_back", event.pk), {"reason": "our fault"})

    assert balance(event.account).available == before + 2200
    assert (UsageRefund.objects.count(), AuditEvent.objects.filter(action="call.refunded").count()) == (1, 1)
    assert check_books() == []


def test_a_price_is_added_and_the_old_one_stays(desk: Client, sentiment: ModelVersion) -> None:
    later = datetime.now(UTC) + timedelta(days=31)

    reply = desk.post(
        deed(VERSION, "set_price", sentiment.pk), {**FLAT, "unit_price": "0.0000003", "effective_from": f"{later:%Y-%m-%d %H:%M}"}
    )

    assert reply.status_code == 302
    assert list(Price.objects.order_by("effective_from").values_list("unit", "unit_nanos")) == [("token", 200), ("token", 300)]
    assert last_deed()[0] == "price.set"
    assert ControlChange.objects.filter(reference="farebox/sentiment").count() >= 2


def test_a_price_in_the_past_is_refused_and_told(desk: Client, sentiment: ModelVersion) -> None:
    reply = desk.post(deed(VERSION, "set_price", sentiment.pk), {**FLAT, "unit_price": "0.1", "effective_from": "2020-01-01 00:00"})

    assert "in the past" in reply.content.decode()
    assert Price.objects.count() == 1


def test_a_dearer_price_without_notice_is_refused_and_told(desk: Client, sentiment: ModelVersion) -> None:
    reply = desk.post(deed(VERSION, "set_price", sentiment.pk), {**FLAT, "unit_price": "0.1", "effective_from": ""})

    assert "needs notice" in reply.content.decode()
    assert Price.objects.count() == 1


def test_a_price_by_tiers_is_set_and_shown_in_words(desk: Client, sentiment: ModelVersion) -> None:
    tiers = {"scheme": "graduated", "currency": "usd", "tiers": "1000000 0.0000002\n* 0.0000001"}

    reply = desk.post(deed(VERSION, "set_price", sentiment.pk), tiers)

    assert reply.status_code == 302
    price = Price.objects.latest("created_at")
    assert (price.shape["scheme"], price.meter) == ("graduated", "farebox/sentiment")
    assert "$0.20 per million tokens at first, $0.10 per million tokens with more use" in desk.get(reply["Location"]).content.decode()


@pytest.mark.parametrize("tiers", ["1000", "many 0.1", "* 0.1x", "5 1\n5 1\n* 1", "5 1"])
def test_tiers_that_cannot_be_read_are_refused(desk: Client, sentiment: ModelVersion, tiers: str) -> None:
    reply = desk.post(deed(VERSION, "set_price", sentiment.pk), {"scheme": "volume", "currency": "usd", "tiers": tiers})

    assert reply.status_code == 200
    assert Price.objects.count() == 1


def test_a_version_is_weighed_and_retired(desk: Client, sentiment: ModelVersion) -> None:
    desk.post(deed(VERSION, "weigh", sentiment.pk), {"weight": "5"})
    sentiment.refresh_from_db()
    assert sentiment.traffic_weight == 5

    for _ in range(2):
        desk.post(deed(VERSION, "retire", sentiment.pk), {"reason": "superseded"})
    sentiment.refresh_from_db()
    assert sentiment.state == "retired"
    assert last_deed() == ("version.retired", "operator@example.com", "superseded")
    assert AuditEvent.objects.filter(action="version.retired").count() == 1


def test_a_model_is_hidden_and_shown(desk: Client, sentiment: ModelVersion) -> None:
    page = deed("marketplace_cataloguemodel", "change_visibility", sentiment.model.pk)

    for public in (False, True):
        desk.post(page)
        assert CatalogueModel.objects.get().public is public


def test_a_person_is_blocked_but_not_oneself(desk: Client, user: User, operator: User) -> None:
    desk.post(deed("marketplace_user", "block", user.pk), {"reason": "spam"})
    reply = desk.post(deed("marketplace_user", "block", operator.pk), {"reason": "oops"})

    user.refresh_from_db()
    operator.refresh_from_db()
    assert (user.is_active, operator.is_active) == (False, True)
    assert "yourself" in reply.content.decode()

    desk.post(deed("marketplace_user", "unblock", user.pk))
    user.refresh_from_db()
    assert user.is_active


def test_staff_who_may_only_look_do_nothing(client: Client, organization: Organization) -> None:
    from django.contrib.auth.models import Permission

    watcher = User.objects.create_user("watcher@example.com", "correct horse battery", is_staff=True)
    watcher.user_permissions.add(Permission.objects.get(codename="view_organization"))
    client.force_login(watcher)

    assert client.get(reverse("admin:marketplace_organization_change", args=[organization.pk])).status_code == 200
    assert client.post(deed(ORGANIZATION, "suspend", organization.pk), {"reason": "r"}).status_code == 403
    organization.refresh_from_db()
    assert organization.suspended_at is None


def test_a_versions_limits_are_set_and_noted_once(desk: Client, sentiment: ModelVersion) -> None:
    page = deed(VERSION, "set_limits", sentiment.pk)
    assert desk.get(page).status_code == 200
    for _ in range(2):
        desk.post(page, {"max_batch_rows": "8", "max_queue_delay_us": "0", "max_body_bytes": "", "allow_nonfinite": "on"})

    sentiment.refresh_from_db()
    assert (sentiment.max_batch_rows, sentiment.max_queue_delay_us, sentiment.max_body_bytes) == (8, 0, None)
    assert sentiment.allow_nonfinite
    event = AuditEvent.objects.get(action="version.limited")
    assert event.details["max_batch_rows"] == {"from": None, "to": 8}
    assert ControlChange.objects.filter(subject="model").exists()


@pytest.mark.parametrize(
    "field", [{"max_batch_rows": "257"}, {"max_batch_rows": "0"}, {"max_queue_delay_us": "-1"}, {"max_body_bytes": "9"}]
)
def test_limits_that_make_no_sense_are_refused(desk: Client, sentiment: ModelVersion, field: dict[str, str]) -> None:
    assert desk.post(deed(VERSION, "set_limits", sentiment.pk), field).status_code == 200

    assert not AuditEvent.objects.filter(action="version.limited").exists()


@pytest.mark.parametrize("change", [{"max_batch_rows": 0}, {"max_batch_rows": 300}, {"max_queue_rows": 0}, {"max_body_bytes": 1}])
def test_the_database_itself_refuses_such_limits(sentiment: ModelVersion, change: dict[str, int]) -> None:
    with pytest.raises(IntegrityError, match="version_limits_sane"):
        ModelVersion.objects.filter(pk=sentiment.pk).update(**change)
