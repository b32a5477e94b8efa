"""Webhooks from a running site: what was committed arrives, whatever happens to Celery; and nothing goes to this machine unasked."""

import json
import random
import time
from collections.abc import Iterator

import pytest

from tests.flows.calls import Caller
from tests.flows.claims import ClaimsOfTheDead
from tests.flows.server import Site, start_site
from tests.marketplace.webhooks.receiver import receiver


@pytest.fixture
def open_site() -> Iterator[Site]:
    """A site whose webhooks may go to this machine."""
    with start_site(WEBHOOKS_TO_LOOPBACK="yes") as site:
        yield site


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_kill_9_of_celery_loses_no_message(open_site: Site) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    instants, claims = random.Random(seed), ClaimsOfTheDead(open_site)
    caller = Caller(open_site.port, open_site.key)
    with receiver(before_answer=lambda _: time.sleep(0.05)) as told:
        assert caller.post("/v1/webhooks", {"url": told.url, "events": ["prediction.succeeded"]}).status == 201
        accepted = []
        for _ in range(6):
            accepted += [caller.predict(prefer="respond-async").json()["id"] for _ in range(5)]
            time.sleep(instants.uniform(0.2, 1.5))
            claims.kill_celery()
        claims.end()
        deadline = time.monotonic() + 200  # What was claimed just after we looked ends after 60 s, a delivery after 45 s.
        while len({json.loads(body)["data"]["id"] for _, body in told.received}) < len(accepted):
            assert time.monotonic() < deadline, f"{len(told.received)} of {len(accepted)}"
            time.sleep(0.5)

    assert {json.loads(body)["data"]["id"] for _, body in told.received} == set(accepted)
    by_id = {(headers["webhook-id"], body) for headers, body in told.received}
    assert len(by_id) == len(accepted)  # One message each, with one body however often it was sent.


def test_nothing_goes_to_this_machine_unless_the_operator_says_so(site: Site) -> None:
    caller = Caller(site.port, site.key)
    with receiver() as told:
        answers = [
            caller.post("/v1/webhooks", {"url": url}) for url in (told.url, told.url.replace("http", "https"), "https://localhost/x")
        ]

    assert {(answer.status, answer.code) for answer in answers} == {(422, "webhook_invalid")}
    assert told.received == []
