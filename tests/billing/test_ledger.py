"""Tests of accounts, credit and the ledger."""

import threading
from collections.abc import Callable

import pytest
from django.db import connections

from billing.books import check_books
from billing.errors import BillingError, CreditPoolEmpty, GrantConflict
from billing.ledger import balance, credit_account_name, grant_credit, grant_free_credit, ledger_balance, open_account
from billing.models import Account, CreditGrant, CreditPool
from billing.money import Nanos
from tests.billing.facts import CREDIT_NANOS

pytestmark = pytest.mark.django_db
FIVE, POOL = Nanos(5_000_000_000), Nanos(12_000_000_000)


def test_a_new_account_can_pay_for_nothing() -> None:
    opened = open_account(name="acme")

    assert (balance(opened).granted, balance(opened).available) == (0, 0)
    assert check_books() == []


def test_a_grant_is_credit_at_once_and_two_entries(account: Account) -> None:
    grant = grant_credit(account, FIVE, kind="operator", reference="goodwill 1", by="ada@example.com")

    assert balance(account).available == CREDIT_NANOS + FIVE
    assert ledger_balance(credit_account_name(account)) == CREDIT_NANOS + FIVE
    assert sorted(entry.amount_nanos for entry in grant.transaction.entries.all()) == [-FIVE, FIVE]
    assert (grant.by, grant.kind) == ("ada@example.com", "operator")
    assert check_books() == []


def test_a_grant_repeated_is_one_grant(account: Account) -> None:
    first = grant_credit(account, FIVE, kind="operator", reference="goodwill 1", by="ada")
    again = grant_credit(account, FIVE, kind="operator", reference="goodwill 1", by="bob")

    assert first == again
    assert balance(account).granted == CREDIT_NANOS + FIVE


def test_a_reference_used_for_something_else_grants_nothing(account: Account) -> None:
    grant_credit(account, FIVE, kind="operator", reference="goodwill 1", by="ada")

    with pytest.raises(GrantConflict):
        grant_credit(account, Nanos(1), kind="operator", reference="goodwill 1", by="ada")
    with pytest.raises(GrantConflict):
        grant_free_credit(open_account(name="other"), amount_nanos=FIVE, pool_limit_nanos=POOL, reference="goodwill 1")

    assert balance(account).granted == CREDIT_NANOS + FIVE


@pytest.mark.parametrize("amount", [0, -1, 2**63])
def test_a_grant_out_of_range_is_refused(account: Account, amount: int) -> None:
    with pytest.raises(ValueError, match="out of range"):
        grant_credit(account, Nanos(amount), kind="operator", reference="r", by="ada")

    assert balance(account).granted == CREDIT_NANOS


def test_free_credit_comes_out_of_its_pool_only(account: Account) -> None:
    with pytest.raises(ValueError, match="pool"):
        grant_credit(account, FIVE, kind="free", reference="r", by="ada")


def test_free_credit_ends_when_the_pool_is_empty() -> None:
    accounts = [open_account(name=f"account {number}") for number in range(3)]
    for number, opened in enumerate(accounts[:2]):
        grant_free_credit(opened, amount_nanos=FIVE, pool_limit_nanos=POOL, reference=f"welcome:{number}")

    with pytest.raises(CreditPoolEmpty) as refused:
        grant_free_credit(accounts[2], amount_nanos=FIVE, pool_limit_nanos=POOL, reference="welcome:2")

    assert (refused.value.left_nanos, refused.value.asked_nanos) == (2_000_000_000, FIVE)
    assert balance(accounts[2]).granted == 0
    assert check_books() == []


def test_free_credit_repeated_draws_once() -> None:
    opened = open_account(name="acme")
    for _ in range(3):
        grant_free_credit(opened, amount_nanos=FIVE, pool_limit_nanos=POOL, reference="welcome:ada")

    assert CreditPool.objects.get().granted_nanos == FIVE
    assert balance(opened).granted == FIVE


def test_the_pool_follows_its_setting_but_never_below_what_was_given() -> None:
    opened = open_account(name="acme")
    grant_free_credit(opened, amount_nanos=FIVE, pool_limit_nanos=FIVE, reference="1")
    grant_free_credit(opened, amount_nanos=FIVE, pool_limit_nanos=POOL, reference="2")  # Raised.

    with pytest.raises(CreditPoolEmpty):
        grant_free_credit(opened, amount_nanos=FIVE, pool_limit_nanos=Nanos(1), reference="3")  # Lowered.

    assert CreditPool.objects.get().granted_nanos == 2 * FIVE


@pytest.mark.django_db(transaction=True)
def test_a_flood_of_sign_ups_at_once_cannot_overdraw_the_pool() -> None:
    accounts = [open_account(name=f"account {number}") for number in range(8)]
    start = threading.Barrier(8)
    refused: list[BillingError] = []

    def welcome(number: int) -> None:
        start.wait()
        try:
            grant_free_credit(accounts[number], amount_nanos=FIVE, pool_limit_nanos=POOL, reference=f"welcome:{number}")
        except CreditPoolEmpty as error:
            refused.append(error)
        finally:
            connections.close_all()

    run_all(welcome)

    assert len(refused) == 6
    assert CreditPool.objects.get().granted_nanos == 2 * FIVE
    assert check_books() == []


@pytest.mark.django_db(transaction=True)
def test_one_reference_granted_at_once_by_many_is_granted_once(account: Account) -> None:
    start = threading.Barrier(8)
    grants: list[CreditGrant] = []

    def grant(number: int) -> None:
        start.wait()
        try:
            grants.append(grant_credit(account, FIVE, kind="operator", reference="goodwill 1", by=f"operator {number}"))
        finally:
            connections.close_all()

    run_all(grant)

    assert len({granted.pk for granted in grants}) == 1
    assert len(grants) == 8
    assert balance(account).granted == CREDIT_NANOS + FIVE
    assert check_books() == []


def run_all(body: Callable[[int], None]) -> None:
    threads = [threading.Thread(target=body, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
