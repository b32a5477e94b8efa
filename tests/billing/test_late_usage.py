"""Usage that is settled after its month was closed: on the next invoice, on lines that name the month, proven like any other."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.conf import settings
from django.db.models import F
from django.utils import timezone

from billing import credit_lines, late_usage, posting
from billing.books import check_books
from billing.collecting import items_of
from billing.ids import public_id
from billing.invoicing import CLOSE_AFTER, close_period, close_periods, upcoming_invoice
from billing.ledger import balance, ledger_balance, open_account, provider_account_name
from billing.models import (
    Account,
    BooksCheckpoint,
    Budget,
    CreditGrant,
    Invoice,
    LateUsage,
    Price,
    SkuShare,
    UsageCounter,
    UsageEvent,
    UsagePosting,
)
from billing.money import NANOS_PER_CENT as CENT
from billing.money import to_decimal_string
from billing.periods import EPOCH, month_of
from billing.posting import post_usage
from billing.pricing import Shape, Tier
from billing.receipt_audit import check_receipts
from billing.receipting import WriteReceiptKey, find_inclusion, published_keys, read_invoice_receipts
from billing.receipts import Signer, render_json, root_of_path
from billing.refunding import refund_event
from billing.rerating import rederive_invoices
from billing.shapes import render_shape
from billing.statements import statement_of
from billing.usage_books import spent_before
from billing.verify import verify
from tests.billing.facts import Recorder

pytestmark = pytest.mark.django_db
SEPTEMBER, OCTOBER, NOVEMBER, DECEMBER = (datetime(2025, month, 1, tzinfo=UTC) for month in (9, 10, 11, 12))
IN_OCTOBER, IN_NOVEMBER = datetime(2025, 10, 31, 23, 59, tzinfo=UTC), datetime(2025, 11, 3, 10, 30, tzinfo=UTC)
AFTER_OCTOBER, AFTER_NOVEMBER = NOVEMBER + CLOSE_AFTER, DECEMBER + CLOSE_AFTER


@pytest.fixture
def recorder(account: Account) -> Recorder:
    """The account's gateway, with receipts."""
    signer = Signer(settings.RECEIPT_KEY)
    WriteReceiptKey(signer).write([None])
    return Recorder(account, signer=signer)


@pytest.fixture
def october(recorder: Recorder, price: Price) -> Invoice:
    """A closed October of one call, then a call of November."""
    recorder.record(price, units=10, occurred_at=IN_OCTOBER)
    closed = close_period(recorder.account, OCTOBER, now=AFTER_OCTOBER)
    recorder.record(price, units=3, occurred_at=IN_NOVEMBER)
    return closed


def as_json(invoice: Invoice) -> dict[str, Any]:
    """The fields of the API's answer that the check reads."""
    lines = [
        {
            "sku": line.sku,
            "price": line.price_id.hex,
            "late_from": line.late_from.isoformat() if line.late_from else None,
            "calls": line.events,
            "units": line.units,
            "charge": to_decimal_string(line.charge_nanos),
            "merkle_root": line.merkle_root,
        }
        for line in invoice.lines.all()
    ]
    return {
        "number": invoice.number,
        "starts_at": invoice.starts_at.isoformat(),
        "ends_at": invoice.ends_at.isoformat(),
        "lines": lines,
        "refunds": [],
        "late_calls": [{"call": public_id("req", pk), "late_from": month.isoformat()} for pk, month in late_usage.late_calls(invoice)],
        "late_after": late_usage.seal_before(invoice),
        "last_receipt": invoice.sealed_seq,
        "receipt_keys": published_keys(),
    }


def receipts(*invoices: Invoice) -> list[str]:
    return sorted({json.dumps(render_json(receipt)) for invoice in invoices for receipt in read_invoice_receipts(invoice)})


def sums(invoice: Invoice) -> list[tuple[Any, ...]]:
    lines = invoice.lines.order_by(F("late_from").asc(nulls_first=True), "sku")
    return [(line.sku, line.late_from, line.events, line.units, line.charge_nanos) for line in lines]


def test_a_late_call_is_on_the_next_invoice_on_a_line_of_its_month(recorder: Recorder, october: Invoice, price: Price) -> None:
    late = recorder.record(price, units=7, occurred_at=IN_OCTOBER)
    assert check_books() == []  # Not yet posted, and no difference.
    post_usage(now=IN_NOVEMBER + timedelta(days=1), everything=True)

    assert LateUsage.objects.get().period == NOVEMBER
    assert check_books() == []
    upcoming = upcoming_invoice(recorder.account, now=IN_NOVEMBER)
    november = close_period(recorder.account, NOVEMBER, now=AFTER_NOVEMBER)

    assert sums(october) == [(price.sku, None, 1, 10, 2_000)]
    assert sums(november) == [(price.sku, None, 1, 3, 600), (price.sku, OCTOBER, 1, 7, 1_400)]
    assert [(line.late_from, line.charge_nanos) for line in upcoming.lines] == [(None, 600), (OCTOBER, 1_400)]
    assert balance(recorder.account).spent == 4_000
    assert (check_books(), rederive_invoices(), list(check_receipts())) == ([], [], [])
    assert find_inclusion(october, late.pk) is None


def test_what_nobody_posted_before_the_next_close_is_found_by_it(recorder: Recorder, october: Invoice, price: Price) -> None:
    recorder.record(price, units=7, occurred_at=OCTOBER)

    november = close_period(recorder.account, NOVEMBER, now=AFTER_NOVEMBER)

    assert sums(november)[1] == (price.sku, OCTOBER, 1, 7, 1_400)
    assert check_books() == []


def test_late_calls_are_proven_and_so_is_the_invoice_that_they_are_not_on(recorder: Recorder, october: Invoice, price: Price) -> None:
    late = [recorder.record(price, units=units, occurred_at=IN_OCTOBER) for units in (7, 8, 9)]
    november = close_period(recorder.account, NOVEMBER, now=AFTER_NOVEMBER)

    assert verify(as_json(november), receipts(november)) == []
    assert verify(as_json(october), receipts(october)) == []
    assert verify(as_json(october), receipts(october, november)) == []
    found = find_inclusion(november, late[1].pk)
    assert found is not None
    leaf = bytes(late[1].receipt.hash)
    assert root_of_path(leaf, index=found.place, size=found.size, path=found.path) == found.root
    assert (found.place, found.size, found.root.hex()) == (1, 3, november.lines.get(late_from=OCTOBER).merkle_root)


def test_who_bills_a_call_twice_or_of_another_month_is_found_out(recorder: Recorder, october: Invoice, price: Price) -> None:
    recorder.record(price, units=7, occurred_at=IN_OCTOBER)
    november = close_period(recorder.account, NOVEMBER, now=AFTER_NOVEMBER)
    lines, invoice = receipts(november, october), as_json(november)
    twice = public_id("req", UsageEvent.objects.get(receipt__seq=1).pk)

    again = {**invoice, "late_calls": [*invoice["late_calls"], {"call": twice, "late_from": OCTOBER.isoformat()}]}
    assert any("did not come between this invoice and the one before" in sentence for sentence in verify(again, lines))
    moved = {**invoice, "late_calls": [{**invoice["late_calls"][0], "late_from": SEPTEMBER.isoformat()}]}
    assert any("is billed as one of 2025-09" in sentence for sentence in verify(moved, lines))
    hidden = {**invoice, "late_calls": []}
    assert any("Merkle root" in sentence for sentence in verify(hidden, lines))
    unknown = {**invoice, "late_calls": [*invoice["late_calls"], {"call": "req_x", "late_from": OCTOBER.isoformat()}]}
    assert "There is no receipt of the late call req_x." in verify(unknown, lines)


def test_a_month_with_nothing_but_late_calls_is_closed_too(recorder: Recorder, price: Price) -> None:
    recorder.record(price, units=10, occurred_at=IN_OCTOBER)
    close_period(recorder.account, OCTOBER, now=AFTER_OCTOBER)
    recorder.record(price, units=7, occurred_at=IN_OCTOBER)
    post_usage(now=IN_NOVEMBER, everything=True)

    assert close_periods(now=AFTER_NOVEMBER) == 1
    assert close_periods(now=AFTER_NOVEMBER) == 0

    assert sums(Invoice.objects.get(starts_at=NOVEMBER)) == [(price.sku, OCTOBER, 1, 7, 1_400)]
    assert check_books() == []


def test_a_refund_in_a_month_without_usage_is_billed_all_the_same(recorder: Recorder, price: Price) -> None:
    event = recorder.record(price, units=10, occurred_at=IN_OCTOBER)
    close_period(recorder.account, OCTOBER, now=AFTER_OCTOBER)
    refund = refund_event(event.pk, reason="test", by="test")

    month, ends_at = month_of(refund.booked_at)
    assert close_periods(now=ends_at + CLOSE_AFTER) == 1

    assert sums(Invoice.objects.get(starts_at=month)) == [(price.sku, None, -1, -10, -2_000)]
    assert check_books() == []


def test_a_refunded_late_call_is_billed_and_given_back(recorder: Recorder, october: Invoice, price: Price) -> None:
    late = recorder.record(price, units=7, occurred_at=IN_OCTOBER)
    refund = refund_event(late.pk, reason="test", by="test")
    month, ends_at = month_of(refund.booked_at)

    close_periods(now=ends_at + CLOSE_AFTER)

    assert sums(Invoice.objects.get(starts_at=NOVEMBER)) == [(price.sku, None, 1, 3, 600), (price.sku, OCTOBER, 1, 7, 1_400)]
    assert sums(Invoice.objects.get(starts_at=month)) == [(price.sku, None, -1, -7, -1_400)]
    assert check_books() == []


def test_a_call_of_a_month_that_was_passed_over_is_late(recorder: Recorder, october: Invoice, price: Price) -> None:
    recorder.record(price, units=7, occurred_at=SEPTEMBER)

    with pytest.raises(ValueError, match="later"):
        close_period(recorder.account, SEPTEMBER, now=AFTER_NOVEMBER)
    close_periods(now=AFTER_NOVEMBER)

    assert list(Invoice.objects.order_by("starts_at").values_list("starts_at", flat=True)) == [OCTOBER, NOVEMBER]
    assert sums(Invoice.objects.get(starts_at=NOVEMBER))[1] == (price.sku, SEPTEMBER, 1, 7, 1_400)
    assert check_books() == []


def test_late_calls_of_two_months_have_two_lines(recorder: Recorder, october: Invoice, price: Price) -> None:
    close_period(recorder.account, NOVEMBER, now=AFTER_NOVEMBER)
    recorder.record(price, units=1, occurred_at=IN_OCTOBER)
    recorder.record(price, units=2, occurred_at=IN_NOVEMBER)

    december = close_period(recorder.account, DECEMBER, now=datetime(2026, 1, 1, tzinfo=UTC) + CLOSE_AFTER)

    assert sums(december) == [(price.sku, OCTOBER, 1, 1, 200), (price.sku, NOVEMBER, 1, 2, 400)]
    assert verify(as_json(december), receipts(december)) == []
    assert check_books() == []


def test_a_late_event_without_a_receipt_is_a_difference(account: Account, october: Invoice, price: Price) -> None:
    """Who adds to a closed month behind our back does not get it billed."""
    Recorder(account).record(price, occurred_at=IN_OCTOBER)

    assert "invoice line" in {difference.what for difference in check_books()}


def test_who_owes_pays_late_calls_with_the_next_month(till: object, price: Price) -> None:
    account = open_account(name="acme")
    credit_lines.set_credit_line(account, 100_000 * CENT)
    account.refresh_from_db()
    dear = Price.objects.create(sku="house/dear@1", unit="call", unit_nanos=100 * CENT, effective_from=EPOCH)
    signer = Signer(settings.RECEIPT_KEY)
    WriteReceiptKey(signer).write([None])
    recorder = Recorder(account, signer=signer)
    recorder.record(dear, units=30, occurred_at=IN_OCTOBER)
    assert close_period(account, OCTOBER, now=AFTER_OCTOBER).due_cents == 3_000
    recorder.record(dear, units=5, occurred_at=IN_OCTOBER)

    november = close_period(account, NOVEMBER, now=AFTER_NOVEMBER)

    assert (november.status, november.due_cents) == ("open", 500)
    (item,) = items_of(november)
    assert (item.amount_cents, item.starts_at, item.ends_at) == (500, OCTOBER, NOVEMBER)
    assert item.description == "house/dear@1 (2025-10): 5 calls in 1 calls"
    assert item.merkle_root == november.lines.get().merkle_root != ""
    assert check_books() == []


def test_the_provider_is_paid_for_late_calls_in_the_month_that_bills_them(recorder: Recorder, price: Price) -> None:
    payee = open_account(name="models & co")
    SkuShare.objects.create(subject=price.sku, payee=payee, fee_basis_points=1500, effective_from=EPOCH, by="test")
    recorder.record(price, units=10, occurred_at=IN_OCTOBER)
    close_period(recorder.account, OCTOBER, now=AFTER_OCTOBER)
    recorder.record(price, units=100, occurred_at=IN_OCTOBER)
    close_period(recorder.account, NOVEMBER, now=AFTER_NOVEMBER)

    assert [statement_of(payee, month=month).totals[0].share for month in (OCTOBER, NOVEMBER)] == [1_700, 17_000]
    assert ledger_balance(provider_account_name(payee)) == 18_700
    first, second = UsagePosting.objects.order_by("number")
    assert (first.period, first.range_events, second.period, second.range_events) == (OCTOBER, 1, NOVEMBER, 1)
    assert second.corrects == first


def test_late_calls_that_reach_a_better_rate_make_the_month_cheaper(recorder: Recorder) -> None:
    """Five at $5, then a sixth: six at $4 are $24, but $30 were charged."""
    tiers = (Tier(up_to=5, unit_nanos=5 * CENT), Tier(up_to=None, unit_nanos=4 * CENT))
    shape = render_shape(Shape(scheme="volume", tiers=tiers))
    price = Price.objects.create(sku="house/v@1", unit="token", unit_nanos=5 * CENT, shape=shape, effective_from=EPOCH)
    counter = UsageCounter.objects.create(account=recorder.account, meter="house/v@1", unit="token", starts_at=OCTOBER, units=5)
    recorder.record(price, units=5, occurred_at=IN_OCTOBER)
    close_period(recorder.account, OCTOBER, now=AFTER_OCTOBER)
    assert not CreditGrant.objects.filter(kind="rebate").exists()
    recorder.record(price, units=1, occurred_at=IN_OCTOBER)
    UsageCounter.objects.filter(pk=counter.pk).update(units=6)

    november = close_period(recorder.account, NOVEMBER, now=AFTER_NOVEMBER)

    (grant,) = CreditGrant.objects.filter(kind="rebate")
    assert (grant.amount_nanos, grant.reference) == (6 * CENT, f"rebate:{november.number}:{price.pk}:202510")
    assert check_books() == []


def test_the_hourly_check_holds_late_calls_against_the_months_before(recorder: Recorder, october: Invoice, price: Price) -> None:
    close_period(recorder.account, NOVEMBER, now=AFTER_NOVEMBER)
    spent = {str(budget): nanos for budget, nanos in spent_before(DECEMBER, refunds_until=timezone.now()).items()}
    checkpoint = BooksCheckpoint.objects.create(until=DECEMBER, refunds_until=timezone.now(), made_at=timezone.now(), spent=spent)
    recorder.record(price, units=7, occurred_at=IN_NOVEMBER)
    assert check_books(checkpoint) == []
    post_usage(now=timezone.now(), everything=True)
    assert check_books(checkpoint) == []

    Budget.objects.update(spent_nanos=F("spent_nanos") + 1)

    assert [difference.what for difference in check_books(checkpoint)] == ["budget spent"]


def test_a_late_call_that_settles_while_its_hour_is_posted_is_billed_all_the_same(
    recorder: Recorder, october: Invoice, price: Price, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The poster locks the account, not the calls that settle: one may come after it looked for late ones."""
    book_late = posting.book_late

    def then_one_more(account: Account, hour: datetime) -> Any:
        found = book_late(account, hour)
        recorder.record(price, units=8, occurred_at=IN_OCTOBER)
        return found

    recorder.record(price, units=7, occurred_at=IN_OCTOBER)
    with monkeypatch.context() as patched:
        patched.setattr(posting, "book_late", then_one_more)
        posting.post_account(recorder.account, since=OCTOBER, until=NOVEMBER)
    post_usage(now=IN_NOVEMBER + timedelta(days=1), everything=True)

    november = close_period(recorder.account, NOVEMBER, now=AFTER_NOVEMBER)

    assert sums(november)[1] == (price.sku, OCTOBER, 2, 15, 3_000)
    assert check_books() == []


def test_no_month_is_passed_over_whose_calls_would_be_on_no_invoice_then(recorder: Recorder, october: Invoice, price: Price) -> None:
    recorder.record(price, units=9, occurred_at=datetime(2025, 12, 3, tzinfo=UTC))

    with pytest.raises(ValueError, match="2025-11 is not closed"):
        close_period(recorder.account, DECEMBER, now=datetime(2026, 1, 2, tzinfo=UTC))

    assert Invoice.objects.get() == october
    close_periods(now=datetime(2026, 1, 2, tzinfo=UTC))
    assert [invoice.lines.get().units for invoice in Invoice.objects.order_by("starts_at")] == [10, 3, 9]
