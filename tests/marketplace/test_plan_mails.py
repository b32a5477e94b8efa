"""Mail on a plan's fee that could not be paid, and on the plan's end: once each, in both languages."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import translation

from billing.ledger import grant_credit
from billing.models import Budget, Notice, Subscription
from billing.money import Nanos
from billing.subscriptions import renew, subscribe
from marketplace import payments
from marketplace.models import Organization, User
from tests.billing.planned import FEE, hard

pytestmark = pytest.mark.django_db
GRACE = timedelta(hours=72)


@pytest.fixture
def member(client: Client, user: User, organization: Organization) -> Client:
    client.force_login(user)
    return client


@pytest.fixture
def row(organization: Organization) -> Subscription:
    """A plan whose first month took all that there was."""
    grant_credit(organization.account, Nanos(FEE), kind="operator", reference="test:mail", by="test")
    return subscribe(organization.account, hard(code="team", scope="*"), by="test")


def renew_at(row: Subscription, *moments: datetime) -> None:
    """Ask for the fee at each of the moments, and mail what there is to tell."""
    for moment in moments:
        renew(row.pk, grace=GRACE, now=moment)
        payments.send_notices()
        payments.send_notices()


def spend_all(organization: Organization) -> None:
    Budget.objects.filter(account=organization.account, subject="account").update(spent_nanos=FEE)


def test_owners_are_mailed_once_of_an_unpaid_fee_and_once_of_the_end(
    row: Subscription, organization: Organization, mailoutbox: list[Any]
) -> None:
    spend_all(organization)
    due = row.paid_until

    renew_at(row, due, due + timedelta(minutes=1), due + timedelta(hours=50), due + GRACE, due + GRACE + timedelta(hours=1))

    assert [(mail.subject, mail.to) for mail in mailoutbox] == [
        ("acme: the fee of the plan “team” could not be paid", ["ada@example.com"]),
        ("acme: the plan “team” has ended", ["ada@example.com"]),
    ]
    assert (
        f"“team”, $3.00. Nothing was charged, and calls cost their published price for now. Top up by {due + GRACE:%Y-%m-%d %H:%M} UTC"
        in (mailoutbox[0].body)
    )
    assert "stayed unpaid, so the plan has ended" in mailoutbox[1].body


def test_the_mails_speak_chinese(row: Subscription, organization: Organization, mailoutbox: list[Any]) -> None:
    spend_all(organization)

    with translation.override("zh-hans"):
        renew_at(row, row.paid_until, row.paid_until + GRACE)

    assert [mail.subject for mail in mailoutbox] == ["acme：套餐“team”的月费未能支付", "acme：套餐“team”已结束"]  # noqa: RUF001 (as Chinese writes it)


def test_a_fee_that_is_paid_mails_nobody(row: Subscription, organization: Organization, mailoutbox: list[Any]) -> None:
    grant_credit(organization.account, Nanos(2 * FEE), kind="operator", reference="test:more", by="test")

    renew_at(row, row.paid_until, row.paid_until + timedelta(hours=1))

    assert mailoutbox == []
    assert not Notice.objects.exists()


def test_a_fee_paid_before_the_mail_went_out_is_not_told_as_unpaid(
    row: Subscription, organization: Organization, mailoutbox: list[Any]
) -> None:
    spend_all(organization)
    renew(row.pk, grace=GRACE, now=row.paid_until)
    grant_credit(organization.account, Nanos(2 * FEE), kind="operator", reference="test:late", by="test")

    renew_at(row, row.paid_until + timedelta(minutes=1))

    assert mailoutbox == []
    assert Notice.objects.get().sent_at is not None


def test_the_plans_page_says_what_is_unpaid_and_until_when(row: Subscription, organization: Organization, member: Client) -> None:
    spend_all(organization)
    renew(row.pk, grace=GRACE, now=row.paid_until)

    shown = member.get(reverse("plans")).content.decode()

    assert "The fee of $3.00 could not be paid, so calls cost their published price for now." in shown
    assert f"{row.paid_until + GRACE:%Y-%m-%d %H:%M}" in shown
