"""Promise 12: what is accepted is delivered, once in effect, whatever the broker does.

The broker here loses every task, runs each many times, at once, late, and in any order. Rows that were
committed reach Stripe and receivers all the same; rows of a transaction that was rolled back never do.
"""

import random
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import current_app
from django.db import connection, connections, transaction
from django.utils import timezone
from kombu.exceptions import OperationalError

from billing import sending, topups
from billing.books import check_books
from billing.ledger import open_account
from billing.models import Account, OutboxRow, TopUp
from billing.providers.fake.world import Fault
from marketplace.models import Organization, WebhookDelivery
from marketplace.webhooks import emit, endpoints
from marketplace.webhooks.delivering import deliver_due
from tests.marketplace.webhooks.receiver import Receiver, receiver
from tests.till import TIMEOUT_S, Till

pytestmark = pytest.mark.django_db(transaction=True)
URLS = {"by": "ada", "success_url": "http://x/", "cancel_url": "http://x/"}


@pytest.fixture(autouse=True)
def _broker_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is taken by the broker: what it does with what it takes, the tests do themselves."""

    def refuse(*_: Any, **__: Any) -> None:
        message = "The broker is down."
        raise OperationalError(message)

    monkeypatch.setattr(type(current_app._get_current_object()), "send_task", refuse)


@pytest.fixture
def told(settings: Any) -> Iterator[Receiver]:
    """A receiver of an organization's webhooks."""
    settings.WEBHOOKS_TO_LOOPBACK = True
    with receiver() as listening:
        yield listening


def all_at_once(count: int, work: Callable[[int], object]) -> None:
    """Run `work(0..count-1)` in threads that start together, as several Celery workers would."""
    start, failed = threading.Barrier(count), list[BaseException]()

    def run(number: int) -> None:
        start.wait()
        try:
            work(number)
        except BaseException as error:  # noqa: BLE001 (shown below)
            failed.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # SQLite has one writer: who waited too long for it fails, and the next sweep has its row.
    assert not failed or connection.vendor == "sqlite", failed


def test_a_row_delivered_by_many_workers_at_once_asks_once(till: Till) -> None:
    accounts = [open_account(name=f"acme {number}") for number in range(3)]
    rows = [topups.start_top_up(account, 900, **URLS)[1].pk for account in accounts]

    all_at_once(8, lambda number: [sending.deliver(row) for row in random.Random(number).choices(rows, k=6)])
    till.make_due()
    sending.sweep()
    till.make_due()
    sending.sweep()

    assert (till.count("checkout.session"), till.count("customer")) == (3, 3)
    assert not OutboxRow.objects.filter(state="waiting").exists()
    assert set(TopUp.objects.values_list("status", flat=True)) == {"open"}


def test_without_any_broker_the_sweep_delivers_all_even_after_lost_answers(till: Till, account: Account) -> None:
    till.world.faults.waiting += [
        Fault(kind="timeout_after", match="POST /v1/customers", seconds=TIMEOUT_S + 0.2),
        Fault(kind="timeout_after", match="POST /v1/checkout/sessions", seconds=TIMEOUT_S + 0.2),
    ]
    top_up, _ = topups.start_top_up(account, 900, **URLS)
    for _ in range(4):
        till.make_due()
        sending.sweep()

    top_up.refresh_from_db()
    assert (top_up.status, till.count("checkout.session"), till.count("customer")) == ("open", 1, 1)
    assert till.requests("POST /v1/checkout/sessions") == 2  # Asked twice, done once.
    till.pay(top_up)
    till.tell()
    assert check_books() == []


def test_what_was_rolled_back_is_never_sent(till: Till, account: Account) -> None:
    with transaction.atomic():
        topups.start_top_up(account, 900, **URLS)
        transaction.set_rollback(True)

    till.sweep()

    assert not till.world.requests


def test_a_webhook_reaches_its_receiver_once_though_every_task_was_lost_and_then_ran_at_once(
    organization: Organization, told: Receiver
) -> None:
    endpoints.register_endpoint(organization, url=told.url, events=["*"], description="", by="test")
    for number in range(12):
        emit(organization, "batch.completed", {"object": "batch", "id": f"bat_{number}"})

    all_at_once(6, lambda _: deliver_due())
    deliver_due()

    assert len(told.received) == len({headers["webhook-id"] for headers, _ in told.received}) == 12
    assert not WebhookDelivery.objects.exclude(state="delivered").exists()


def test_a_receiver_that_was_down_is_told_later(organization: Organization, told: Receiver) -> None:
    endpoints.register_endpoint(organization, url=told.url, events=["*"], description="", by="test")
    told.status = 503
    emit(organization, "batch.completed", {"object": "batch", "id": "bat_1"})
    deliver_due()

    told.status = 200
    WebhookDelivery.objects.update(due_at=timezone.now())
    deliver_due()

    assert len(told.received) == 2
    assert len({headers["webhook-id"] for headers, _ in told.received}) == 1  # By which the receiver knows it again.
    assert WebhookDelivery.objects.get().state == "delivered"
