"""Tests of what follows when the books differ: whom it concerns is not charged, others go on, the operator is told and lifts it."""

from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db.models import F
from django.test import Client
from django.urls import reverse

from billing.books import check_books as differences
from billing.models import Account, BooksRun, Budget, UsageRollup
from billing.posting import post_usage
from marketplace.errors import AccountUnderReview
from marketplace.gateway.callers import load_caller
from marketplace.keys import KeySettings, issue_key
from marketplace.models import ApiKey, AuditEvent, ControlChange, ModelVersion, Organization, User
from marketplace.reviews import act_on
from marketplace.tasks import check_books
from tests.billing.facts import Recorder

pytestmark = pytest.mark.django_db


@pytest.fixture
def customers(organization: Organization, other_organization: Organization, sentiment: ModelVersion) -> tuple[Organization, Organization]:
    """Two organizations that called something."""
    from billing.models import Price

    for one in (organization, other_organization):
        Recorder(one.account).record(Price.objects.get(sku=sentiment.sku))
    assert differences() == []
    return organization, other_organization


def key_of(organization: Organization) -> ApiKey:
    """A live key of it."""
    return issue_key(organization=organization, name="live", settings=KeySettings(), by="test")[0]


def may_predict(key: ApiKey) -> bool:
    """Whether the door lets it run something."""
    caller = load_caller(key.digest)
    assert caller is not None
    try:
        caller.check_scope("predict")
    except AccountUnderReview:
        return False
    return True


def tamper(organization: Organization) -> None:
    """Change a balance behind everybody's back."""
    Budget.objects.filter(account=organization.account, subject="account").update(spent_nanos=F("spent_nanos") + 7)
    BooksRun.objects.all().delete()  # Another hour.


def test_the_account_that_a_difference_concerns_is_stopped_and_others_go_on(
    customers: tuple[Organization, Organization], operator: User, mailoutbox: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    touched, other = customers
    keys = key_of(touched), key_of(other)
    tamper(touched)

    check_books()

    assert [may_predict(key) for key in keys] == [False, True]
    assert ControlChange.objects.filter(subject="organization", reference=touched.pk.hex).exists()
    assert AuditEvent.objects.get(action="account.review_started").organization == touched
    (mail,) = mailoutbox
    assert mail.to == [operator.email]
    assert touched.account.name in mail.body
    assert "budget spent" in mail.body
    assert "The books differ: budget spent" in caplog.text


def test_test_keys_and_other_scopes_work_meanwhile(customers: tuple[Organization, Organization]) -> None:
    touched, _ = customers
    live, test = key_of(touched), issue_key(organization=touched, name="test", settings=KeySettings(livemode=False), by="test")[0]
    tamper(touched)

    check_books()

    caller = load_caller(live.digest)
    assert caller is not None
    caller.check_scope("usage:read")
    assert may_predict(test)


def test_the_operator_lifts_it_and_the_same_difference_does_not_stop_it_again(
    customers: tuple[Organization, Organization], operator: User, mailoutbox: list[Any]
) -> None:
    touched, _ = customers
    key = key_of(touched)
    tamper(touched)
    check_books()
    desk = Client()
    desk.force_login(operator)
    assert "Not charged until you lift their review" in desk.get("/admin/").content.decode()
    page = reverse("admin:marketplace_organization_lift_review", args=[touched.pk])
    assert "budget spent" in desk.get(page).content.decode()

    desk.post(page, {"reason": "looked at, mended by a grant"})

    assert may_predict(key)
    deed = AuditEvent.objects.get(action="account.review_lifted")
    assert (deed.by, deed.details["reason"]) == (operator.email, "looked at, mended by a grant")
    assert "under no review" in desk.post(page, {"reason": "again"}).content.decode()

    BooksRun.objects.all().delete()
    check_books()
    assert may_predict(key)

    tamper(touched)  # By more: another difference.
    check_books()
    assert not may_predict(key)
    assert len(mailoutbox) == 2


def test_a_stopped_account_is_told_of_once(customers: tuple[Organization, Organization], operator: User, mailoutbox: list[Any]) -> None:
    tamper(customers[0])
    check_books()
    BooksRun.objects.all().delete()

    check_books()

    assert len(mailoutbox) == 1
    assert AuditEvent.objects.filter(action="account.review_started").count() == 1


@pytest.mark.parametrize("what", ["rollup", "posting"])
def test_each_kind_of_difference_finds_its_account(customers: tuple[Organization, Organization], what: str) -> None:
    touched, _ = customers
    if what == "rollup":
        UsageRollup.objects.filter(account=touched.account).update(units=F("units") + 1)
    else:
        from datetime import timedelta

        from django.db import connection
        from django.utils import timezone

        post_usage(now=timezone.now() + timedelta(hours=2))
        with connection.cursor() as cursor:
            cursor.execute(
                "DROP TRIGGER billing_usageposting_no_update" + (" ON billing_usageposting" if connection.vendor == "postgresql" else "")
            )
            cursor.execute(
                "UPDATE billing_usageposting SET charge_nanos = charge_nanos + 1, fee_nanos = fee_nanos + 1 WHERE account_id = %s",
                [touched.account_id if connection.vendor == "postgresql" else touched.account_id.hex],
            )

    act_on(differences())

    assert list(Account.objects.filter(under_review_at__isnull=False)) == [touched.account]


def test_the_command_tells_and_fails_and_stops_nobody_unless_asked(
    customers: tuple[Organization, Organization], capsys: pytest.CaptureFixture[str]
) -> None:
    touched, _ = customers
    call_command("check_books", "--full")
    assert "The books balance: all calls." in capsys.readouterr().out
    tamper(touched)

    with pytest.raises(CommandError, match="1 differences, all calls"):
        call_command("check_books", "--full")
    assert may_predict(key_of(touched))
    with pytest.raises(CommandError):
        call_command("check_books", "--act")
    assert not may_predict(key_of(touched))
    assert "budget spent of" in capsys.readouterr().out


def test_members_read_why_their_calls_are_refused(customers: tuple[Organization, Organization], user: User, client: Client) -> None:
    tamper(customers[0])
    check_books()
    client.force_login(user)

    assert "Your account is under review." in client.get(reverse("keys")).content.decode()
