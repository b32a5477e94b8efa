"""Invoices that the operator takes back before they were final at the provider."""

from typing import Any

import pytest

from billing import outbox, sending
from billing.books import check_books
from billing.errors import ProviderRefused
from billing.ledger import balance
from billing.models import Account, Invoice, OutboxRow, Price, StripeEventWork
from billing.providers import provider
from billing.providers.fake import invoices
from billing.providers.fake.world import Fault
from tests.billing.test_collecting import LINE, theirs, use_and_close, work
from tests.till import TIMEOUT_S, Till

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("by_hand", ["", "deleted", "finalized"])
def test_an_invoice_that_was_refused_before_it_was_final_is_cancelled(
    till: Till, postpaid: Account, dear: Price, monkeypatch: pytest.MonkeyPatch, by_hand: str
) -> None:
    finalize = provider().finalize_invoice
    monkeypatch.setattr(provider(), "finalize_invoice", refuse)
    invoice = use_and_close(postpaid, dear)
    work(till)
    monkeypatch.setattr(provider(), "finalize_invoice", finalize)
    assert OutboxRow.objects.get(kind="invoice.finalize").state == "refused"
    if by_hand == "deleted":
        invoices.delete_invoice(till.world, {}, theirs(till)["id"])
    elif by_hand == "finalized":
        invoices.finalize(till.world, {}, theirs(till)["id"])

    outbox.enqueue(postpaid, kind="invoice.void", subject=invoice.pk, parameters={})
    till.world.faults.waiting.append(Fault(kind="timeout_after", match="DELETE /v1/invoices", seconds=TIMEOUT_S + 0.3))
    work(till)
    till.tell()

    invoice.refresh_from_db()
    assert (invoice.status, balance(postpaid).available) == ("void", LINE)
    assert OutboxRow.objects.get(kind="invoice.void").state == "done"
    assert [one["status"] for one in till.world.store.all("invoice")] == (["void"] if by_hand == "finalized" else [])
    assert not StripeEventWork.objects.filter(outcome="waiting").exists()
    assert check_books() == []


def test_an_invoice_of_which_not_even_a_draft_could_be_made_is_cancelled(
    till: Till, postpaid: Account, dear: Price, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provider(), "create_invoice", refuse)
    invoice = use_and_close(postpaid, dear)
    work(till)
    assert "There is no such thing." in Invoice.objects.get().failure

    outbox.enqueue(postpaid, kind="invoice.void", subject=invoice.pk, parameters={})
    work(till)

    invoice.refresh_from_db()
    assert (invoice.status, balance(postpaid).available) == ("void", LINE)
    assert check_books() == []


def test_an_invoice_that_is_being_made_is_voided_once_it_is_final(till: Till, postpaid: Account, dear: Price) -> None:
    invoice = use_and_close(postpaid, dear)
    row = outbox.enqueue(postpaid, kind="invoice.void", subject=invoice.pk, parameters={})

    assert not sending.deliver(row.pk)
    for _ in range(6):
        for other in OutboxRow.objects.filter(state="waiting").exclude(pk=row.pk):
            sending.deliver(other.pk)
    work(till)

    invoice.refresh_from_db()
    assert (invoice.status, theirs(till)["status"]) == ("void", "void")


def refuse(*_asked: Any, **_named: Any) -> Any:
    """Refuse, as the provider does what it never will do."""
    raise ProviderRefused(reason="invalid_request", said="There is no such thing.")
