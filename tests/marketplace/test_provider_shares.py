"""Tests of whom a model's calls pay: its owner from the day it goes live, at the fee of that day or the operator's."""

from datetime import timedelta
from importlib import import_module
from typing import Any

import pytest
from django.apps import apps
from django.core.management import call_command
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from billing.errors import ShareInvalid
from billing.models import SkuShare, UsagePosting
from billing.payable import find_payable
from billing.periods import hour_of
from billing.posting import post_usage
from billing.prices import set_price
from billing.shares import set_share, share_at, statement
from marketplace.models import AuditEvent, ModelVersion, Organization, User
from marketplace.provider_shares import set_model_fee, start_share
from tests.billing.facts import Recorder

pytestmark = pytest.mark.django_db


@pytest.fixture
def model(sentiment: ModelVersion, other_organization: Organization) -> Any:
    """A model of another organization than the callers'."""
    sentiment.model.owner = other_organization
    sentiment.model.save(update_fields=["owner"])
    return sentiment.model


def test_the_operators_own_models_pay_nobody(sentiment: ModelVersion) -> None:
    assert not SkuShare.objects.exists()


def test_a_model_keeps_the_fee_of_the_day_it_first_went_live(model: Any, settings: Any) -> None:
    start_share(model, by="test")
    settings.PLATFORM_FEE_BASIS_POINTS = 5_000
    start_share(model, by="test")

    (share,) = SkuShare.objects.all()
    assert (share.subject, share.payee, share.fee_basis_points) == (model.path, model.owner.account, 1_500)
    assert share.effective_from == hour_of(timezone.now())  # Calls of this hour are its first.


def test_the_operator_sets_a_fee_from_the_next_hour_on_and_it_is_on_the_record(model: Any, operator: User) -> None:
    start_share(model, by="test")
    desk = Client()
    desk.force_login(operator)
    page = reverse("admin:marketplace_cataloguemodel_set_fee", args=[model.pk])
    assert "It is 1500 basis points" in desk.get(page).content.decode()

    desk.post(page, {"fee_basis_points": "2500", "reason": "a new contract"})

    now, later = share_at(model.path, timezone.now()), share_at(model.path, timezone.now() + timedelta(hours=1))
    assert now is not None
    assert later is not None
    assert (now.fee_basis_points, later.fee_basis_points, later.by) == (1_500, 2_500, str(operator))
    deed = AuditEvent.objects.get(action="model.fee_set")
    assert deed.details["fee_basis_points"] == 2_500
    assert "already" in desk.post(page, {"fee_basis_points": "2600", "reason": "again"}).content.decode()


def test_a_share_is_refused_that_would_change_what_was_earned(organization: Organization) -> None:
    set_share("a/b", payee=organization.account, fee_basis_points=100, by="test")
    now = timezone.now()

    for fee, moment in (
        (10_001, None),
        (100, hour_of(now)),
        (100, now + timedelta(hours=3, minutes=1)),
        (100, hour_of(now) - timedelta(days=1)),
    ):
        with pytest.raises(ShareInvalid):
            set_share("a/b", payee=organization.account, fee_basis_points=fee, by="test", effective_from=moment)
    assert SkuShare.objects.count() == 1


def test_an_upgrade_has_the_owners_of_sold_models_earn_from_its_hour_on(model: Any) -> None:
    import_module("marketplace.migrations.0012_provider_shares").start_shares(apps, None)

    (share,) = SkuShare.objects.all()
    assert (share.subject, share.payee_id, share.effective_from) == (model.path, model.owner.account_id, hour_of(timezone.now()))


def test_a_call_of_a_providers_model_is_in_its_statement_and_matures(
    model: Any, sentiment: ModelVersion, organization: Organization
) -> None:
    start_share(model, by="test")
    price = set_price(sku=sentiment.sku, unit="token", unit_nanos=200, meter=model.path)
    Recorder(organization.account).record(price, units=17)
    account, now = model.owner.account, timezone.now()

    post_usage(now=now + timedelta(hours=2))

    (line,) = statement(account, since=now - timedelta(days=40), until=now + timedelta(days=1))
    assert (line.sku, line.charge, line.refunds, line.fee, line.share, line.currency) == (sentiment.sku, 3_400, 0, 510, 2_890, "usd")
    held = find_payable(account, currency="usd", now=timezone.now())
    matured = find_payable(account, currency="usd", now=timezone.now() + timedelta(days=15))
    assert held is not None
    assert matured is not None
    assert [(one.balance, one.on_hold) for one in (held, matured)] == [(2_890, 2_890), (2_890, 0)]
    call_command("post_usage", "--all")
    assert UsagePosting.objects.count() == 1


def test_set_model_fee_needs_no_share_before(model: Any) -> None:
    share = set_model_fee(model, fee_basis_points=0, reason="a friend", by="test")

    assert share.fee_basis_points == 0
