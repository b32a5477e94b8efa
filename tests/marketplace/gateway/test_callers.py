"""What a key carries into the gateway: its budgets, from the widest to the narrowest."""

import pytest

from billing.errors import BudgetExceeded
from marketplace.credentials import digest
from marketplace.gateway.callers import load_caller
from marketplace.keys import KeySettings, issue_key
from marketplace.models import ApiKey, Cap, Organization
from marketplace.models.caps import BudgetName
from marketplace.problems import problem_fields


def test_a_call_must_fit_in_every_cap_that_is_set(organization: Organization, other_organization: Organization, live_key: str) -> None:
    key = ApiKey.objects.get(digest=digest(live_key))
    ApiKey.objects.filter(pk=key.pk).update(monthly_cap_nanos=30)
    for name, limit in (
        (BudgetName("organization", "day"), 100),
        (BudgetName("organization", "month"), None),  # Thresholds alone: no limit.
        (BudgetName("key", "day", key.cap_id), 0),
        (BudgetName("key", "total", key.cap_id), 900),
    ):
        Cap.objects.create(organization=organization, subject=name.subject, limit_nanos=limit)
    Cap.objects.create(organization=other_organization, subject="organization:total", limit_nanos=1)

    caller = load_caller(key.digest)

    assert caller is not None
    assert [(spec.subject, spec.interval, spec.limit_nanos) for spec in caller.budgets] == [
        ("account", "total", None),
        ("organization:day", "day", 100),
        (f"key:{key.cap_id}:total", "total", 900),
        (f"key:{key.cap_id}", "month", 30),
        (f"key:{key.cap_id}:day", "day", 0),
    ]
    assert len({spec.key for spec in caller.budgets}) == 5


def test_a_test_key_has_no_budgets(organization: Organization) -> None:
    Cap.objects.create(organization=organization, subject="organization:day", limit_nanos=0)
    key, _ = issue_key(organization=organization, name="t", settings=KeySettings(livemode=False), by="test")

    caller = load_caller(key.digest)

    assert caller is not None
    assert caller.budgets == ()


@pytest.mark.parametrize(
    ("subject", "policy", "words", "page"),
    [
        ("account", "balance", "The account's balance", "/billing/"),
        ("organization:day", "organization_daily_cap", "The organization's daily cap", "/budgets/"),
        ("key:0190a6d2-5c40-7000-8000-000000000000", "monthly_cap", "The key's monthly cap", "/budgets/"),
        ("key:0190a6d2-5c40-7000-8000-000000000000:total", "total_cap", "The key's total cap", "/budgets/"),
    ],
)
def test_a_402_says_which_limit_what_is_used_and_where_to_raise_it(subject: str, policy: str, words: str, page: str) -> None:
    refused = BudgetExceeded(
        subject=subject, limit_nanos=10**9, spent_nanos=9 * 10**8, left_nanos=10**8, asked_nanos=2 * 10**8, resets_at=None
    )

    fields = problem_fields(refused, request_id="req_x")

    assert (fields["policy"], fields["limit"], fields["used"], fields["asked"]) == (policy, "1.000000000", "0.900000000", "0.200000000")
    assert fields["detail"].startswith(f"{words} has 0.100000000 left")
    assert fields["raise_at"].endswith(page)
