"""Promise 12: what is accepted is delivered, once in effect, whatever the broker does.

The broker here takes no task at all; workers run each row many times, at once, late, and in any order, and Stripe's and
receivers' answers are lost. Rows that were committed arrive all the same; rows of a transaction that was rolled back never do.
"""

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from celery import current_app
from django.db import connection, connections, transaction
from django.test.utils import override_settings
from django.utils import timezone
from kombu.exceptions import OperationalError

from billing import sending, topups
from billing.books import check_books
from billing.ledger import open_account
from billing.models import Account, OutboxRow, TopUp
from billing.providers.fake.world import Fault
from marketplace.models import Organization, WebhookDelivery
from marketplace.proving.faults import replaced
from marketplace.proving.findings import require
from marketplace.proving.receiver import Receiver, receiver
from marketplace.proving.till import HANG_S, Till, open_till
from marketplace.tenants import found_organization
from marketplace.webhooks import emit, endpoints
from marketplace.webhooks.delivering import deliver_due

_WORKERS: Final = 8
_TRIES: Final = 6
_MESSAGES: Final = 12
_ROUNDS: Final = 5
TRIED: Final = (
    f"no broker; {_ROUNDS} times: {_WORKERS} workers at once on rows for Stripe, answers lost after the effect, a rolled-back row, "
    f"{_MESSAGES} webhooks, a receiver that was down"
)
_URLS: Final = {"by": "ada", "success_url": "http://x/", "cancel_url": "http://x/"}


@contextmanager
def broker_down() -> Iterator[None]:
    """Have the broker take no task until the block ends: what a worker would do with one, scenes do themselves."""

    def refuse(*_: Any, **__: Any) -> None:
        message = "The broker is down."
        raise OperationalError(message)

    with replaced(type(current_app._get_current_object()), "send_task", refuse):
        yield


def _all_at_once(count: int, work: Callable[[int], object]) -> None:
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
    if failed and connection.vendor != "sqlite":
        raise failed[0]


def _sweep_twice(till: Till) -> None:
    for _ in range(2):
        till.make_due()
        sending.sweep()


def many_workers(till: Till, *, name: str = "acme") -> None:
    """Rows delivered by many workers at once ask Stripe once each in effect."""
    accounts = [open_account(name=f"{name} {number}") for number in range(3)]
    sessions, customers = till.count("checkout.session"), till.count("customer")
    top_ups = [topups.start_top_up(account, 900, **_URLS) for account in accounts]
    rows = [row.pk for _, row in top_ups]
    _all_at_once(_WORKERS, lambda number: [sending.deliver(row) for row in random.Random(number).choices(rows, k=_TRIES)])
    _sweep_twice(till)
    made = (till.count("checkout.session") - sessions, till.count("customer") - customers)
    require(made == (3, 3), f"of 3 top-ups of 3 customers Stripe has {made[0]} and {made[1]}")
    waiting = OutboxRow.objects.filter(account__in=accounts, state="waiting").count()
    require(not waiting, f"{waiting} rows still wait")
    open_now = TopUp.objects.filter(account__in=accounts, status="open").count()
    require(open_now == 3, f"{open_now} of 3 top-ups are open")


def lost_answers(till: Till, account: Account) -> None:
    """Without any broker the sweep delivers all, even where the answers are lost after the effect."""
    sessions, customers, asked = till.count("checkout.session"), till.count("customer"), till.requests("POST /v1/checkout/sessions")
    till.world.faults.waiting += [
        Fault(kind="timeout_after", match="POST /v1/customers", seconds=HANG_S),
        Fault(kind="timeout_after", match="POST /v1/checkout/sessions", seconds=HANG_S),
    ]
    top_up, _ = topups.start_top_up(account, 900, **_URLS)
    for _ in range(4):
        till.make_due()
        sending.sweep()
    top_up.refresh_from_db()
    made = (till.count("checkout.session") - sessions, till.count("customer") - customers)
    require((top_up.status, made) == ("open", (1, 1)), f"the top-up is {top_up.status}; Stripe has {made[0]} of it and {made[1]} customers")
    requests = till.requests("POST /v1/checkout/sessions") - asked
    require(requests == 2, f"asked {requests} times, not twice for one effect")
    till.pay(top_up)
    till.tell()
    wrong = check_books()
    require(not wrong, f"the books: {wrong}")


def rolled_back(till: Till, account: Account) -> None:
    """What was rolled back is never sent."""
    asked = len(till.world.requests)
    with transaction.atomic():
        topups.start_top_up(account, 900, **_URLS)
        transaction.set_rollback(True)
    till.sweep()
    require(len(till.world.requests) == asked, "a row of a transaction that was rolled back was sent")


@contextmanager
def listening() -> Iterator[Receiver]:
    """Run a receiver of webhooks on this machine, which webhooks may reach."""
    with override_settings(WEBHOOKS_TO_LOOPBACK=True), receiver() as told:
        yield told


def webhooks_at_once(organization: Organization, told: Receiver) -> None:
    """Each webhook reaches its receiver once, though every task was lost and then ran at once."""
    endpoints.register_endpoint(organization, url=told.url, events=["*"], description="", by="prove")
    for number in range(_MESSAGES):
        emit(organization, "batch.completed", {"object": "batch", "id": f"bat_{number}"})
    _all_at_once(_TRIES, lambda _: deliver_due())
    deliver_due()
    ids = [headers["webhook-id"] for headers, _ in told.received]
    require(len(ids) == len(set(ids)) == _MESSAGES, f"of {_MESSAGES} webhooks {len(set(ids))} came, {len(ids)} times")
    _check_delivered(organization)


def a_receiver_that_was_down(organization: Organization, told: Receiver) -> None:
    """A receiver that was down is told later, under an id by which it knows the message again."""
    endpoints.register_endpoint(organization, url=told.url, events=["*"], description="", by="prove")
    told.status = 503
    emit(organization, "batch.completed", {"object": "batch", "id": "bat_1"})
    deliver_due()
    told.status = 200
    WebhookDelivery.objects.filter(endpoint__organization=organization).update(due_at=timezone.now())
    deliver_due()
    ids = [headers["webhook-id"] for headers, _ in told.received]
    require(
        (len(ids), len(set(ids))) == (2, 1),
        f"a receiver that was down for one attempt was told {len(ids)} times of {len(set(ids))} messages",
    )
    _check_delivered(organization)


def _check_delivered(organization: Organization) -> None:
    left = WebhookDelivery.objects.filter(endpoint__organization=organization).exclude(state="delivered").count()
    require(not left, f"{left} webhooks were not delivered")


def prove() -> str:
    """Try it; return what was seen."""
    with override_settings(PAYMENTS="fake"), broker_down(), open_till() as till:
        for number in range(_ROUNDS):
            many_workers(till, name=f"many {number}")
            lost_answers(till, open_account(name=f"lost {number}"))
            rolled_back(till, open_account(name=f"rolled back {number}"))
            for scene in (webhooks_at_once, a_receiver_that_was_down):
                organization = found_organization(
                    name="Told", slug=f"told-{number}-{scene.__name__.replace('_', '-')}", owner=None, by="prove"
                )
                with listening() as told:
                    scene(organization, told)
    return f"{4 * _ROUNDS} top-ups, each at Stripe once; {_ROUNDS} rolled back, none sent; {(_MESSAGES + 1) * _ROUNDS} webhooks, each delivered"
