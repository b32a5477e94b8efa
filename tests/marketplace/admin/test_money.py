"""The operator's money page, and what the operator does about payouts."""

from datetime import UTC, datetime, timedelta
from typing import Any

from django.test import Client
from django.urls import reverse
from django.utils import timezone

from billing import payout_runs, sending
from billing.models import BooksRun, CreditNote, Invoice, Payout, PayoutAccount, UsageEvent
from billing.periods import hour_of
from marketplace.models import Organization, User
from tests.billing.payees import CENT, earn, fund_platform, onboard
from tests.till import Till

PAGE = "/admin/money/"


def tiles(desk: Client, currency: str = "USD") -> dict[str, Any]:
    """Return one currency's figures by label."""
    return {figure.label: figure for figure, _ in dict(desk.get(PAGE).context["standings"])[currency]}


def month(desk: Client, currency: str = "USD") -> list[str]:
    """Return the cells of this month."""
    (row,) = [row for row in desk.get(PAGE).context["months"] if row["currency"] == currency]
    return [value for value, _ in row["cells"]]


def test_an_empty_site_has_a_page(desk: Client) -> None:
    assert tiles(desk)["Owed to providers"].value == "$0.00"
    assert "Nothing yet." in desk.get(PAGE).content.decode()


def test_only_the_operator_sees_it(client: Client, user: User) -> None:
    assert client.get(PAGE).status_code == 302
    client.force_login(user)
    assert client.get(PAGE).status_code == 302


def test_what_came_in_is_owed_and_was_sent(till: Till, desk: Client, event: UsageEvent, organization: Organization, settings: Any) -> None:
    settings.PAYOUT_HOLD_DAYS = settings.PAYOUT_RESERVE_PERCENT = 0
    account = organization.account
    onboard(till, account)
    customer = fund_platform(till, 9000)
    till.top_up(customer, 700, "0259")
    earn(account, 1500)
    payout_runs.pay_providers(now=timezone.now() + timedelta(minutes=1), by="test")
    sending.sweep()
    earn(account, -200)
    earn(account, 42, currency="eur")

    assert month(desk) == ["$0.0000022", "$13.00", "-$12.9999978", "$97.00", "–", "$7.00", "$15.00", "–"]
    assert month(desk, "EUR")[1] == "€0.42"
    shown = tiles(desk)
    assert (shown["Owed to providers"].value, shown["Debts of providers"].value) == ("$0.00", "$2.00")
    assert (shown["Disputed now"].value, shown["Disputed now"].state) == ("$7.00", "bad")
    assert tiles(desk, "EUR")["Owed to providers"].value == "€0.42"


def test_unpaid_invoices_are_told_by_what_is_left_to_pay(desk: Client, organization: Organization) -> None:
    month = {"starts_at": datetime(2026, 10, 1, tzinfo=UTC), "ends_at": datetime(2026, 11, 1, tzinfo=UTC)}
    facts = {"account": organization.account, "currency": "usd", "total_cents": 900, "due_cents": 700, "paid_cents": 100}
    Invoice.objects.create(number="1", status="past_due", **facts, **month)
    older = {"starts_at": datetime(2026, 9, 1, tzinfo=UTC), "ends_at": datetime(2026, 10, 1, tzinfo=UTC)}
    Invoice.objects.create(number="2", status="paid", **facts, **older)

    shown = tiles(desk)["Unpaid invoices"]

    assert (shown.value, shown.note, shown.state) == ("$6.00", "1 invoices", "bad")


def test_unpaid_invoices_count_those_given_up_and_less_what_was_taken_back(desk: Client, organization: Organization) -> None:
    facts = {"account": organization.account, "currency": "usd", "total_cents": 900, "due_cents": 700}
    for number, status in ((8, "open"), (9, "uncollectible"), (10, "void")):
        month = {"starts_at": datetime(2026, number, 1, tzinfo=UTC), "ends_at": datetime(2026, number + 1, 1, tzinfo=UTC)}
        invoice = Invoice.objects.create(number=f"{number}", status=status, **facts, **month)
        for count, lowers_due in enumerate((True, True, False)):
            CreditNote.objects.create(
                invoice=invoice, number=f"{number}-{count}", total_cents=100, tax_cents=0, settlement="credit", lowers_due=lowers_due,
                reason="test", by="test",
            )  # fmt: skip

    shown = tiles(desk)["Unpaid invoices"]

    assert (shown.value, shown.note) == ("$10.00", "2 invoices")


def test_books_that_differ_are_told(desk: Client) -> None:
    BooksRun.objects.create(
        hour=hour_of(timezone.now()),
        started_at=timezone.now(),
        finished_at=timezone.now(),
        differences=1,
        difference_nanos=7,
        first="x is 7",
    )

    assert "x is 7" in desk.get(PAGE).content.decode()


def test_every_link_of_the_page_leads_somewhere(till: Till, desk: Client, event: UsageEvent, organization: Organization) -> None:
    fund_platform(till)
    earn(organization.account, 100)
    context = desk.get(PAGE).context
    links = {link for _, found in context["standings"] for _, link in found}
    links |= {link for row in context["months"] for _, link in row["cells"] if link}

    assert {link: desk.get(link).status_code for link in links} == dict.fromkeys(links, 200)


# ---------------------------------------------------------------- Deeds


def test_the_operator_pays_one_provider_now_on_the_record(till: Till, desk: Client, organization: Organization, settings: Any) -> None:
    settings.PAYOUT_HOLD_DAYS = settings.PAYOUT_RESERVE_PERCENT = 0
    onboard(till, organization.account)
    fund_platform(till)
    earn(organization.account, 1500.5)
    address = reverse("admin:billing_payoutaccount_pay_now", args=[PayoutAccount.objects.get().pk])

    assert "$15.005 can be sent now" in desk.get(address).content.decode()
    assert desk.post(address).status_code == 302
    assert desk.post(address).status_code == 200  # Twice: it is on its way.

    payout = Payout.objects.get()
    assert (payout.amount_cents, payout.by) == (1500, "operator@example.com")
    assert organization.audit_events.get(action="payout.made").details == {"amount_cents": 1500, "currency": "usd"}


def test_the_operator_holds_and_releases_payouts(till: Till, desk: Client, organization: Organization) -> None:
    onboard(till, organization.account)
    payee = PayoutAccount.objects.get()

    desk.post(reverse("admin:billing_payoutaccount_hold", args=[payee.pk]), {"reason": "looks like fraud"})
    payee.refresh_from_db()
    assert payee.held_at is not None
    desk.post(reverse("admin:billing_payoutaccount_release", args=[payee.pk]))
    payee.refresh_from_db()
    assert payee.held_at is None
    assert [event.action for event in organization.audit_events.filter(action__startswith="payouts.").order_by("sequence")] == [
        "payouts.held",
        "payouts.released",
    ]


def test_the_command_tells_and_pays(till: Till, organization: Organization, settings: Any, capsys: Any) -> None:
    from django.core.management import call_command

    settings.PAYOUT_HOLD_DAYS = settings.PAYOUT_RESERVE_PERCENT = 0
    onboard(till, organization.account)
    fund_platform(till)
    earn(organization.account, 1500)

    call_command("pay_providers", "--dry-run")
    assert ": 15.00 usd\n" in capsys.readouterr().out
    assert not Payout.objects.exists()
    call_command("pay_providers")
    assert "15.00 usd is being sent" in capsys.readouterr().out
    assert Payout.objects.get().amount_cents == 15 * 10**9 // CENT
