"""The organization's own page."""

import pytest
from django.test import Client

from marketplace.models import ControlChange, Organization

PAGE = "/organization/settings/"


def test_a_member_turns_the_response_cache_on_and_off(member: Client, organization: Organization) -> None:
    assert b"checked" not in member.get(PAGE).content

    assert member.post(PAGE, {"response_cache": "on"}).status_code == 302

    organization.refresh_from_db()
    assert organization.response_cache
    assert b"checked" in member.get(PAGE).content
    assert ControlChange.objects.filter(subject="organization", reference=organization.pk.hex).exists()
    assert organization.audit_events.filter(action="response_cache.set").count() == 1

    member.post(PAGE)

    organization.refresh_from_db()
    assert not organization.response_cache


def test_saving_what_is_so_already_changes_nothing(member: Client, organization: Organization) -> None:
    before = ControlChange.objects.count()

    member.post(PAGE)

    assert ControlChange.objects.count() == before
    assert not organization.audit_events.filter(action="response_cache.set").exists()


@pytest.mark.django_db
def test_a_stranger_changes_nothing(client: Client, organization: Organization) -> None:
    assert client.post(PAGE, {"response_cache": "on"}).status_code == 302

    organization.refresh_from_db()
    assert not organization.response_cache
