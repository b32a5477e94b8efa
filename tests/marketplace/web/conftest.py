"""A signed-in member, a stranger's things, and a key to record calls with."""

import pytest
from django.core.cache import cache
from django.test import Client

from marketplace.keys import KeySettings, issue_key
from marketplace.models import ApiKey, Organization, User


@pytest.fixture(autouse=True)
def _empty_cache() -> None:
    cache.clear()  # Rate limits and latencies of the test before.


@pytest.fixture
def member(client: Client, user: User, organization: Organization) -> Client:
    """A browser in which `user`, who owns `organization`, is signed in."""
    client.force_login(user)
    return client


@pytest.fixture
def key(organization: Organization, user: User) -> ApiKey:
    """A live key of `organization`."""
    return issue_key(organization=organization, name="laptop", settings=KeySettings(), by=user)[0]


@pytest.fixture
def foreign_key(other_organization: Organization) -> ApiKey:
    """A live key of somebody else."""
    return issue_key(organization=other_organization, name="theirs", settings=KeySettings(), by="test")[0]
