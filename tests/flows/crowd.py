"""Callers that go on while a site is being broken, and what must hold of the books afterwards."""

import random
import threading
import time
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any, Self

from billing.ids import parse_public_id
from tests.flows.calls import Answer, Caller
from tests.flows.server import Site

CALLERS = 16


@dataclass
class Told:
    """What clients were told, from all threads."""

    answered: list[str] = field(default_factory=list)  # Request ids of 2xx answers.
    refused: dict[str, int] = field(default_factory=dict)  # Codes of typed refusals.
    unknown: int = 0  # Connections that ended without an answer.
    wrong: list[str] = field(default_factory=list)


class Crowd:
    """Callers that keep calling until told to stop, and note what each call came to."""

    def __init__(self, *sites: Site, seed: int) -> None:
        self.told = Told()
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._call, args=(sites[number % len(sites)], seed + number)) for number in range(CALLERS)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _call(self, site: Site, seed: int) -> None:
        words = random.Random(seed)
        caller = Caller(site.port, site.key)
        while not self._stop.is_set():
            text = " ".join(["good"] * words.randint(1, 60))
            try:
                answer = caller.predict({"input_data": text})
            except OSError:
                self._note(None)
                time.sleep(0.05)
            except Exception as error:  # noqa: BLE001 (http.client's many ways to say that the server is gone)
                self._note(None, error)
                time.sleep(0.05)
            else:
                self._note(answer)

    def _note(self, answer: Answer | None, _: Exception | None = None) -> None:
        with self._lock:
            if answer is None:
                self.told.unknown += 1
            elif answer.status == 200:
                self.told.answered.append(answer.json()["id"])
            elif answer.status in {503, 504} and answer.code:
                self.told.refused[answer.code] = self.told.refused.get(answer.code, 0) + 1
            else:
                self.told.wrong.append(f"{answer.status} {answer.body[:200]!r}")


def wait_until_served(caller: Caller, *, timeout_s: float = 10) -> None:
    """Wait until a call is answered again."""
    deadline = time.monotonic() + timeout_s
    while caller.predict().status != 200:
        assert time.monotonic() < deadline, "the site did not recover by itself"
        time.sleep(0.2)


def wait_until_nothing_is_held(database: Any, *, timeout_s: float) -> None:
    """Wait until no budget has money out on lease."""
    deadline = time.monotonic() + timeout_s
    while database.execute("SELECT COALESCE(SUM(leased_nanos), 0) FROM billing_budget").fetchone()[0]:
        assert time.monotonic() < deadline, "money is still held"
        time.sleep(0.5)


def event_ids(database: Any) -> set[str]:
    """Return the ids of all usage events, as hexadecimal text."""
    return {row[0] for row in database.execute("SELECT id FROM billing_usageevent").fetchall()}


def assert_nothing_was_lost_or_doubled(database: Any, answered_ids: Sequence[str], *, before: AbstractSet[str] = frozenset()) -> None:
    """Every answer has its one event, and every event its answer or a refund; those of `before` are others'."""
    answered = {identity.hex for text in answered_ids if (identity := parse_public_id("req", text))}
    events = event_ids(database) - before
    refunded = {row[0] for row in database.execute("SELECT event_id FROM billing_usagerefund").fetchall()}
    assert len(answered) == len(answered_ids)  # No id was given twice.
    assert answered <= events, "an answered call has no usage event"
    assert events - refunded <= answered, "a call was charged, neither answered nor refunded"


def assert_books_fold(database: Any) -> None:
    """Balances are the fold of their entries: events less refunds = spent = rollups."""
    events = database.execute("SELECT COALESCE(SUM(charge_nanos), 0) FROM billing_usageevent").fetchone()[0]
    refunds = database.execute("SELECT COALESCE(SUM(charge_nanos), 0) FROM billing_usagerefund").fetchone()[0]
    rollups = database.execute("SELECT COALESCE(SUM(charge_nanos - refunded_nanos), 0) FROM billing_usagerollup").fetchone()[0]
    spent = database.execute("SELECT COALESCE(SUM(spent_nanos), 0) FROM billing_budget WHERE subject = 'account'").fetchone()[0]
    assert events - refunds == rollups == spent
