import re
from typing import Any

import pytest
from django.contrib import admin
from django.db.models import Model
from django.test import Client
from django.urls import reverse

from billing.models import Account, Budget, UsageEvent
from marketplace.models import ApiKey, RequestLog, User

# Not ours, and not shown: nothing registers with them.
TABLES = sorted((f"{table._meta.app_label}_{table._meta.model_name}" for table in admin.site._registry), key=str)


def page_of(table: str) -> tuple[type[Model], Any]:
    return next(
        (model, page) for model, page in admin.site._registry.items() if f"{model._meta.app_label}_{model._meta.model_name}" == table
    )


@pytest.mark.parametrize("table", TABLES)
def test_every_table_is_listed_and_every_row_is_shown(desk: Client, everything: None, table: str) -> None:
    model, _ = page_of(table)
    row = model._default_manager.first()

    assert desk.get(reverse(f"admin:{table}_changelist")).status_code == 200
    assert row is not None
    assert desk.get(reverse(f"admin:{table}_change", args=[row.pk])).status_code == 200


@pytest.mark.parametrize("table", TABLES)
def test_no_row_is_added_changed_or_deleted_by_a_form(desk: Client, everything: None, table: str) -> None:
    model, _ = page_of(table)
    row = model._default_manager.first()
    assert row is not None
    before = model._default_manager.filter(pk=row.pk).values().get()

    assert desk.get(reverse(f"admin:{table}_add")).status_code == 403
    assert desk.post(reverse(f"admin:{table}_change", args=[row.pk]), dict.fromkeys(before, "1")).status_code == 403
    assert desk.post(reverse(f"admin:{table}_delete", args=[row.pk]), {"post": "yes"}).status_code == 403

    assert model._default_manager.filter(pk=row.pk).values().get() == before


@pytest.mark.parametrize("table", TABLES)
def test_every_search_answers(desk: Client, everything: None, table: str) -> None:
    assert desk.get(reverse(f"admin:{table}_changelist"), {"q": "acme"}).status_code == 200


def test_no_page_holds_a_digest_or_a_reply(desk: Client, everything: None) -> None:
    key, call = ApiKey.objects.get(), RequestLog.objects.get()

    for table, pk in (("marketplace_apikey", key.pk), ("marketplace_requestlog", call.pk)):
        for page in (reverse(f"admin:{table}_changelist"), reverse(f"admin:{table}_change", args=[pk])):
            text = desk.get(page).content.decode()
            assert key.digest not in text
            assert "what the customer got" not in text


def test_a_call_is_found_by_the_request_id_a_customer_names(desk: Client, everything: None) -> None:
    from billing.ids import public_id

    shown = public_id("req", RequestLog.objects.get().pk)

    assert shown in desk.get(reverse("admin:marketplace_requestlog_changelist"), {"q": shown}).content.decode()


@pytest.mark.parametrize("query", [{"outcome": "answered"}, {"outcome": "refused"}, {"outcome": "failed"}])
def test_the_log_is_filtered_by_outcome(desk: Client, everything: None, query: dict[str, str]) -> None:
    text = desk.get(reverse("admin:marketplace_requestlog_changelist"), query).content.decode()

    assert ("farebox/sentiment@1" in text) == (query["outcome"] == "answered")


def test_strangers_are_sent_to_the_sites_own_sign_in(client: Client, user: User) -> None:
    for path in ("/admin/", "/admin/login/", "/admin/marketplace/apikey/"):
        reply = client.get(path, follow=True)
        assert reply.redirect_chain[-1][0].startswith("/accounts/login/?")

    client.force_login(user)  # A customer, not an operator.
    assert client.get("/admin/login/").status_code == 403
    assert client.get("/admin/").status_code == 302


def test_only_the_dashboard_may_evaluate_expressions(desk: Client, client: Client, db: None) -> None:
    inside, outside = desk.get("/admin/").headers, client.get("/docs/api/").headers
    name = "Content-Security-Policy"

    assert "'unsafe-eval'" in inside[name]
    assert "unsafe" not in outside[name]
    # No inline script, in either.
    assert "script-src 'self' 'unsafe-eval';" in inside[name] + ";"
    for policy in (inside[name], outside[name]):
        assert "default-src 'self'" in policy
        assert "http" not in policy


def test_columns_are_named_and_written_for_people(desk: Client, everything: None) -> None:
    events = desk.get(reverse("admin:billing_usageevent_changelist")).content.decode()
    budgets = desk.get(reverse("admin:billing_budget_changelist")).content.decode()
    prices = desk.get(reverse("admin:billing_price_changelist")).content.decode()
    keys = desk.get(reverse("admin:marketplace_apikey_changelist")).content.decode()

    assert "SKU" in events
    assert "livemode" not in events.lower()
    assert re.search(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", events)
    assert "1970" not in budgets
    assert "$0.20 per million tokens" in prices
    assert "API key" in keys


def test_a_call_that_was_not_refunded_shows_no_fault(desk: Client, event: UsageEvent) -> None:
    page = admin.site._registry[UsageEvent]

    assert page.refunded(event) == "–"  # type: ignore[attr-defined]


@pytest.mark.parametrize(("query", "found"), [({"mode": "live"}, True), ({"mode": "test"}, False), ({"mode": "none"}, True)])
def test_keys_are_filtered_by_mode(desk: Client, key: ApiKey, query: dict[str, str], found: bool) -> None:
    text = desk.get(reverse("admin:marketplace_apikey_changelist"), query).content.decode()

    assert (key.masked in text) == found


@pytest.mark.parametrize(
    "table",
    ["billing_usageevent", "billing_budget", "billing_lease", "billing_creditgrant", "marketplace_requestlog", "billing_usagerollup"],
)
def test_amounts_are_in_their_accounts_currency(desk: Client, event: UsageEvent, table: str) -> None:
    Account.objects.update(currency="eur")
    model, _ = page_of(table)
    row = model._default_manager.first()
    assert row is not None

    for page in (reverse(f"admin:{table}_changelist"), reverse(f"admin:{table}_change", args=[row.pk])):
        text = desk.get(page).content.decode()
        assert re.search(r"€\d", text)
        assert not re.search(r"\$\d", text)


def test_a_quotas_budget_says_units_and_no_money(desk: Client, event: UsageEvent) -> None:
    Budget.objects.filter(account=event.account_id).update(subject="quota:1", limit_nanos=1000)

    text = desk.get(reverse("admin:billing_budget_changelist")).content.decode()

    assert "1,000 units" in text
    assert "$" not in text.partition("<main")[2]
