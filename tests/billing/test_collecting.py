"""Postpaid months: one invoice, one payment, one grant, whatever Stripe, the network and the webhooks do."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from billing import collecting, credit_lines, dunning, tasks
from billing.books import check_books
from billing.customers import ensure_customer
from billing.errors import CreditLineInvalid, RefundTooLarge
from billing.invoicing import CLOSE_AFTER, close_period
from billing.ledger import REVENUE, balance, ledger_balance, open_account
from billing.models import Account, Budget, CreditGrant, Customer, Invoice, Notice, OutboxRow, Price
from billing.money import NANOS_PER_CENT as CENT
from billing.providers import provider
from billing.providers.fake import invoice_pages, invoices, refunds
from billing.providers.fake.store import Obj
from billing.providers.fake.world import Fault
from billing.reversals import reverse_credit
from tests.billing.facts import Recorder
from tests.till import HANG_S, Till

pytestmark = pytest.mark.django_db
NOVEMBER, DECEMBER = datetime(2025, 11, 1, tzinfo=UTC), datetime(2025, 12, 1, tzinfo=UTC)
MID_NOVEMBER = datetime(2025, 11, 15, 12, 30, tzinfo=UTC)
AFTER = DECEMBER + CLOSE_AFTER
LINE = 100_000 * CENT


def use_and_close(account: Account, price: Price, units: int = 30) -> Invoice:
    """Use in November, and close it."""
    Recorder(account).record(price, units=units, occurred_at=MID_NOVEMBER)
    return close_period(account, NOVEMBER, now=AFTER)


def work(till: Till, times: int = 8) -> None:
    """Let every request be sent, with its back-offs passed."""
    for _ in range(times):
        till.make_due()
        till.sweep()


def theirs(till: Till) -> Obj:
    """Return the one invoice that Stripe has."""
    (invoice,) = till.world.store.all("invoice")
    return invoice


def pay_on_the_page(till: Till, card: str = "4242") -> int:
    """Pay as the customer does; return the page's status."""
    path = theirs(till)["hosted_invoice_url"].split("/invoice/")[1]
    return invoice_pages.hosted(till.world, path, {"choice": card})[0]


def test_a_line_lets_calls_be_owed_and_is_no_credit(postpaid: Account) -> None:
    now = balance(postpaid)

    assert (now.granted, now.available) == (0, LINE)
    assert check_books() == []
    with pytest.raises(RefundTooLarge):
        reverse_credit(postpaid, 100, kind="refund", reference="r", by="test", may_owe=False)  # type: ignore[arg-type]
    with pytest.raises(CreditLineInvalid):
        credit_lines.set_credit_line(postpaid, -1)
    credit_lines.set_credit_line(postpaid, 0)
    assert balance(postpaid).available == 0
    assert check_books() == []


def test_a_disputed_invoice_payment_stops_the_line_and_payments(till: Till, postpaid: Account, dear: Price) -> None:
    use_and_close(postpaid, dear)
    work(till)
    pay_on_the_page(till)
    till.tell()
    (charge,) = till.world.store.all("charge")

    refunds.open_dispute(till.world, charge)
    till.tell()

    postpaid.refresh_from_db()
    assert postpaid.line_withdrawn_at is not None
    assert Customer.objects.get(account=postpaid).frozen_at is not None
    assert balance(postpaid).available == 0
    assert check_books() == []


def test_an_invoice_that_has_no_page_yet_is_not_missed(till: Till, postpaid: Account, dear: Price) -> None:
    invoice = use_and_close(postpaid, dear)

    assert dunning.missed_invoices(now=timezone.now() + timedelta(days=99)) == []
    work(till)
    assert dunning.missed_invoices(now=timezone.now() + timedelta(days=99)) == [invoice]


def test_a_month_is_sent_and_paid_on_the_hosted_page(till: Till, postpaid: Account, dear: Price) -> None:
    invoice = use_and_close(postpaid, dear)
    assert (invoice.status, invoice.due_cents) == ("open", 3000)

    work(till)
    invoice.refresh_from_db()
    made = theirs(till)
    assert (made["status"], made["total"], made["collection_method"]) == ("open", 3000, "send_invoice")
    assert invoice.hosted_url == made["hosted_invoice_url"]
    item = till.world.store.all("invoiceitem")[0]
    assert item["metadata"]["farebox_line"] == str(invoice.lines.get().pk)

    assert pay_on_the_page(till, "0002") == 402
    assert pay_on_the_page(till) == 200
    till.tell()
    invoice.refresh_from_db()
    assert (invoice.status, invoice.paid_cents) == ("paid", 3000)
    assert (balance(postpaid).granted, balance(postpaid).spent) == (3000 * CENT, 3000 * CENT)
    assert ledger_balance("payments") == -3000 * CENT
    assert check_books() == []
    assert set(Notice.objects.values_list("kind", flat=True)) == {"invoice_due"}


def test_credit_pays_first_and_stripe_gets_the_rest(till: Till, account: Account, dear: Price) -> None:
    credit_lines.set_credit_line(account, LINE)  # Beside 10 dollars of credit.

    invoice = use_and_close(account, dear)
    work(till)

    assert (invoice.total_cents, invoice.due_cents, theirs(till)["total"]) == (3000, 2000, 2000)
    assert sorted(item["amount"] for item in till.world.store.all("invoiceitem")) == [-1000, 3000]


def test_what_credit_covers_is_not_collected(till: Till, account: Account, dear: Price) -> None:
    credit_lines.set_credit_line(account, LINE)

    assert use_and_close(account, dear, 10).status == "closed"
    assert not OutboxRow.objects.filter(kind="invoice.create").exists()
    assert till.count("invoice") == 0


def test_too_little_waits_for_the_next_month(till: Till, postpaid: Account, price: Price, dear: Price) -> None:
    recorder = Recorder(postpaid)
    recorder.record(price, units=50_000, occurred_at=MID_NOVEMBER)  # One cent.
    recorder.record(dear, units=1, occurred_at=DECEMBER)
    november = close_period(postpaid, NOVEMBER, now=AFTER)
    december = close_period(postpaid, DECEMBER, now=AFTER + timedelta(days=31))

    assert (november.status, december.due_cents) == ("closed", 101)
    work(till)
    assert theirs(till)["total"] == 101
    assert "Owed from before" in {item["description"] for item in till.world.store.all("invoiceitem")}


def test_the_saved_card_is_charged_by_itself(till: Till, account: Account, dear: Price) -> None:
    till.top_up(account)
    credit_lines.set_credit_line(account, LINE)

    invoice = use_and_close(account, dear, 50)
    work(till)
    till.tell()

    invoice.refresh_from_db()
    assert (invoice.due_cents, invoice.status, theirs(till)["status"]) == (1500, "paid", "paid")
    assert CreditGrant.objects.filter(kind="invoice").count() == 1
    assert check_books() == []


def test_a_refused_card_begins_the_grace_and_the_page_still_pays(till: Till, account: Account, dear: Price) -> None:
    till.top_up(account, card="0341")
    credit_lines.set_credit_line(account, LINE)

    invoice = use_and_close(account, dear, 50)
    work(till)

    invoice.refresh_from_db()
    assert (invoice.status, invoice.failure) == ("past_due", "card_declined")
    pay_on_the_page(till)
    till.tell()
    invoice.refresh_from_db()
    assert invoice.status == "paid"
    assert check_books() == []


def test_dunning_stops_the_line_and_a_payment_gives_it_back(till: Till, postpaid: Account, dear: Price) -> None:
    invoice = use_and_close(postpaid, dear)
    work(till)
    Invoice.objects.update(due_at=timezone.now() - timedelta(minutes=1))

    tasks.dun()
    invoice.refresh_from_db()
    assert invoice.status == "past_due"
    assert balance(postpaid).available == LINE - 3000 * CENT  # In the grace, calls go on.

    Invoice.objects.update(past_due_at=timezone.now() - dunning.grace())
    tasks.dun()
    tasks.dun()
    now = balance(postpaid)
    assert (now.available, now.granted) == (0, 0)  # Calls answer 402.
    assert Budget.objects.get(account=postpaid).limit_nanos == 0
    assert check_books() == []

    pay_on_the_page(till)
    till.tell()
    assert balance(postpaid).available == LINE
    assert check_books() == []
    assert sorted(Notice.objects.values_list("kind", flat=True)) == ["invoice_due", "invoice_past_due", "line_restored", "line_withdrawn"]


def test_an_invoice_given_up_stops_the_line_and_a_late_payment_still_counts(till: Till, postpaid: Account, dear: Price) -> None:
    invoice = use_and_close(postpaid, dear)
    work(till)
    invoices.mark_uncollectible(till.world, {}, theirs(till)["id"])
    till.tell()

    invoice.refresh_from_db()
    assert (invoice.status, balance(postpaid).available) == ("uncollectible", 0)
    pay_on_the_page(till)
    till.tell()
    invoice.refresh_from_db()
    assert (invoice.status, balance(postpaid).available) == ("paid", LINE)


def test_a_void_invoice_is_not_owed_any_more(till: Till, postpaid: Account, dear: Price) -> None:
    invoice = use_and_close(postpaid, dear)
    work(till)
    invoices.void(till.world, {}, theirs(till)["id"])
    till.tell()

    invoice.refresh_from_db()
    assert (invoice.status, balance(postpaid).available) == ("void", LINE)
    assert ledger_balance(REVENUE) == 0
    assert check_books() == []


def test_another_total_stops_and_tells_the_operator(till: Till, postpaid: Account, dear: Price, monkeypatch: pytest.MonkeyPatch) -> None:
    fill = provider().fill_invoice

    def fill_and_meddle(identity: str, *rest: Any, **named: Any) -> Any:
        invoices.create_item(till.world, {"invoice": identity, "amount": 1, "currency": "usd"})
        return fill(identity, *rest, **named)

    monkeypatch.setattr(provider(), "fill_invoice", fill_and_meddle)
    invoice = use_and_close(postpaid, dear)
    work(till)

    invoice.refresh_from_db()
    assert "total_mismatch" in invoice.failure
    assert theirs(till)["status"] == "draft"
    assert OutboxRow.objects.get(kind="invoice.finalize").state == "refused"


ROUTES = ["POST /v1/invoices", "POST /v1/invoiceitems", "GET /v1/invoiceitems", "/finalize", "/pay"]


@pytest.mark.parametrize("kind", ["timeout_after", "timeout_before", "error_500", "error_500_after", "rate_limit"])
@pytest.mark.parametrize("route", ROUTES)
def test_a_fault_anywhere_makes_one_invoice_one_payment_one_grant(  # noqa: PLR0917 (fixtures)
    till: Till, account: Account, dear: Price, price: Price, kind: str, route: str
) -> None:
    till.top_up(account)
    credit_lines.set_credit_line(account, LINE)
    Recorder(account).record(price, units=50_000, occurred_at=MID_NOVEMBER)  # A second line.
    till.world.faults.waiting.append(Fault(kind=kind, match=route, seconds=HANG_S))

    invoice = use_and_close(account, dear, 50)
    work(till)
    till.tell()

    invoice.refresh_from_db()
    assert (invoice.status, theirs(till)["status"], theirs(till)["total"]) == ("paid", "paid", 1501)
    assert till.count("invoiceitem") == 3
    assert len([one for one in till.world.store.all("charge") if one["amount"] == 1501]) == 1
    assert CreditGrant.objects.get(kind="invoice").amount_nanos == 1501 * CENT
    assert check_books() == []


def test_webhooks_in_any_order_twice_and_before_the_answer_end_the_same(till: Till, postpaid: Account, dear: Price) -> None:
    invoice = use_and_close(postpaid, dear)
    work(till)
    pay_on_the_page(till)
    events = [event for event in till.events() if event["type"].startswith("invoice.")]
    for event in [*reversed(events), *events]:
        assert till.post(event).status_code == 200
    work(till)

    invoice.refresh_from_db()
    assert (invoice.status, CreditGrant.objects.filter(kind="invoice").count()) == ("paid", 1)
    assert check_books() == []


def test_the_webhook_of_a_payment_may_come_before_the_answer(
    till: Till, account: Account, dear: Price, monkeypatch: pytest.MonkeyPatch
) -> None:
    till.top_up(account)
    credit_lines.set_credit_line(account, LINE)
    pay = provider().pay_invoice

    def pay_and_tell(*asked: Any, **named: Any) -> Any:
        state = pay(*asked, **named)
        till.tell()
        return state

    monkeypatch.setattr(provider(), "pay_invoice", pay_and_tell)
    invoice = use_and_close(account, dear, 50)
    work(till)

    invoice.refresh_from_db()
    assert (invoice.status, CreditGrant.objects.filter(kind="invoice").count()) == ("paid", 1)


def test_an_open_debt_is_not_billed_twice(till: Till, postpaid: Account, dear: Price) -> None:
    recorder = Recorder(postpaid)
    recorder.record(dear, units=30, occurred_at=MID_NOVEMBER)
    recorder.record(dear, units=20, occurred_at=DECEMBER)
    november = close_period(postpaid, NOVEMBER, now=AFTER)
    december = close_period(postpaid, DECEMBER, now=AFTER + timedelta(days=31))

    assert (november.due_cents, december.due_cents, collecting.uncovered_nanos(postpaid)) == (3000, 2000, 0)


def test_a_line_that_ends_in_mid_month_has_its_month_collected(till: Till, postpaid: Account, dear: Price) -> None:
    Recorder(postpaid).record(dear, units=30, occurred_at=MID_NOVEMBER)
    credit_lines.set_credit_line(postpaid, 0)
    Account.objects.filter(pk=postpaid.pk).update(line_ended_at=MID_NOVEMBER)

    november = close_period(postpaid, NOVEMBER, now=AFTER)
    Recorder(postpaid).record(dear, units=1, occurred_at=DECEMBER)
    december = close_period(postpaid, DECEMBER, now=AFTER + timedelta(days=31))

    assert (november.status, november.due_cents) == ("open", 3000)
    assert (december.status, december.due_cents) == ("closed", 0)  # Prepaid by now.
    assert balance(postpaid).granted - balance(postpaid).spent == -3100 * CENT
    work(till)
    pay_on_the_page(till)
    till.tell()
    assert balance(postpaid).granted - balance(postpaid).spent == -100 * CENT
    assert check_books() == []


def test_a_prepaid_account_that_a_dispute_left_below_zero_is_not_sent_an_invoice(till: Till, dear: Price) -> None:
    account = open_account(name="prepaid")
    till.top_up(account, 3000)
    Recorder(account).record(dear, units=30, occurred_at=MID_NOVEMBER)
    (charge,) = till.world.store.all("charge")
    refunds.open_dispute(till.world, charge)
    till.tell()
    credit_lines.set_credit_line(account, 0)

    november = close_period(account, NOVEMBER, now=AFTER)

    assert balance(account).granted - balance(account).spent == -3000 * CENT
    assert (november.status, november.due_cents) == ("closed", 0)
    account.refresh_from_db()
    assert account.line_ended_at is None


def test_strange_invoices_are_ignored(till: Till, postpaid: Account) -> None:
    ensure_customer(postpaid)
    till.sweep()
    customer = till.world.store.all("customer")[0]["id"]
    invoices.create_invoice(till.world, {"customer": customer, "collection_method": "send_invoice", "days_until_due": 3})
    till.tell()

    assert not Invoice.objects.exists()
