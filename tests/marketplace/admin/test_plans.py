"""Tests of the operator's plans: one of the whole catalogue is offered and retired, by name."""

import pytest
from django.test import Client
from django.urls import reverse

from billing.models import Plan
from marketplace.models import AuditEvent, User

pytestmark = pytest.mark.django_db
FIELDS = {"name": "All you need", "code": "all", "fee": "99", "unit": "call", "included_units": "5000", "quota": "hard"}


def test_the_operator_offers_and_retires_a_plan_of_the_whole_catalogue(desk: Client, operator: User) -> None:
    listed = desk.get(reverse("admin:billing_plan_changelist")).content.decode()
    address = reverse("admin:billing_plan_offer")

    shown = desk.get(address)
    sent = desk.post(address, FIELDS)
    plan = Plan.objects.get()
    retired = desk.post(reverse("admin:billing_plan_retire", args=[plan.pk]), {})

    assert address in listed
    assert shown.status_code == 200
    assert (sent.status_code, sent["Location"]) == (302, reverse("admin:billing_plan_change", args=[plan.pk]))
    assert (plan.scope, plan.fee_nanos, plan.included_units, plan.created_by) == ("*", 99 * 10**9, 5000, operator.email)
    assert retired.status_code == 302
    plan.refresh_from_db()
    assert plan.retired_at is not None
    assert set(AuditEvent.objects.filter(target=plan.sku).values_list("action", flat=True)) == {"plan.offered", "plan.retired"}


def test_a_plan_that_makes_no_sense_is_not_made(desk: Client) -> None:
    reply = desk.post(reverse("admin:billing_plan_offer"), FIELDS | {"quota": "soft"})

    assert reply.status_code == 200
    assert "needs an overage price" in reply.content.decode()
    assert not Plan.objects.exists()
