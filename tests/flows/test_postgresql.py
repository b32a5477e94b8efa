"""A site on a real PostgreSQL: the same money, kill -9, restarts of the server, and two gateways on one database."""

import random
import secrets
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from tests.flows.calls import Answer, Caller, at_once, statuses
from tests.flows.crowd import (
    Crowd,
    assert_books_fold,
    assert_nothing_was_lost_or_doubled,
    event_ids,
    wait_until_nothing_is_held,
    wait_until_served,
)
from tests.flows.server import Site, start_site
from tests.flows.test_first_call import (  # noqa: F401 (run here again, on this module's site)
    test_an_answered_call_tells_its_cost_and_is_one_usage_event,
    test_the_balance_falls_by_what_the_calls_cost,
    test_the_invoices_lines_equal_the_sum_of_the_events,
)
from tests.flows.test_money import (  # noqa: F401 (the same)
    ONE_TOKEN_NANOS,
    test_50_parallel_duplicates_are_charged_once_and_get_identical_bytes,
    test_a_cap_worth_100_calls_serves_exactly_100_of_64_callers,
    test_a_revoked_key_fails_within_a_second,
    test_a_test_key_is_free_and_recorded,
)
from tests.postgresql import CannotStart, PostgresServer, start_postgresql

pytestmark = pytest.mark.slow

KILLS = 5
# How long callers of an exhausted cap go on: what another process has on lease and does not use comes back within one second.
PATIENCE_S = 3.0


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A PostgreSQL of this module's own, which flushes like a real one."""
    with ExitStack() as stack:
        try:
            running = stack.enter_context(start_postgresql())
        except CannotStart as reason:
            pytest.skip(f"no PostgreSQL: {reason}")
        yield running


@pytest.fixture(scope="module")
def site(server: PostgresServer) -> Iterator[Site]:
    """A site on it, which the tests of this module share and leave working."""
    with start_site(DATABASE_URL=server.make_database("farebox")) as running:
        yield running


@pytest.mark.timeout(180)
def test_kill_9_of_the_gateway_loses_and_doubles_nothing(site: Site) -> None:
    with crowded(site) as (_, instants):
        for _ in range(KILLS):
            time.sleep(instants.uniform(0.3, 1.0))
            site.kill_gateway()
            site.wait_until_healthy(timeout_s=60)
        time.sleep(0.5)


@pytest.mark.timeout(180)
def test_restarts_of_the_server_are_typed_503s_and_lose_and_double_nothing(site: Site, server: PostgresServer) -> None:
    gateway = site.gateway_pid()
    with crowded(site) as (crowd, instants):
        for number in range(6):
            time.sleep(instants.uniform(0.5, 1.5))
            server.stop("immediate" if number % 2 else "fast")
            # Once for longer than the gateway waits to look a lost COMMIT up: then it takes a new identity.
            time.sleep(4.0 if number == 3 else 0.0)
            server.start()
        site.wait_until_healthy(timeout_s=20)
        time.sleep(0.5)

    assert crowd.told.unknown == 0  # Everybody was told something.
    assert set(crowd.told.refused) <= {"storage_unavailable", "control_data_stale"}
    assert site.gateway_pid() == gateway  # It recovered; it was not started again.


def test_without_its_server_the_site_says_503_at_once_and_goes_on_when_it_is_back(site: Site, server: PostgresServer) -> None:
    caller = Caller(site.port, site.key)
    assert caller.predict().status == 200
    before = site.charged()
    server.stop("fast")
    try:
        time.sleep(2.5)  # The heartbeat is written once a second.
        asked = time.monotonic()
        answers = [caller.predict() for _ in range(5)]
        took_s = time.monotonic() - asked
        alive, ready, listed = caller.get("/healthz"), caller.get("/readyz"), caller.get("/v1/keys")
    finally:
        server.start()

    assert {answer.status for answer in answers} == {503}
    assert {answer.code for answer in answers} <= {"storage_unavailable", "control_data_stale"}
    assert all("retry-after" in answer.headers for answer in answers)
    assert took_s < 1.0
    assert alive.status == 200  # The process is well: starting it again would help nobody.
    assert (ready.status, ready.json()["status"]) == (503, "unavailable")
    assert ready.json()["checks"]["database"] != "ok"
    assert (listed.status, listed.code) == (503, "storage_unavailable")
    wait_until_served(caller)
    assert caller.get("/v1/keys").status == 200
    assert site.charged() > before


@pytest.fixture(scope="module")
def gateways(server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Site]]:
    """Two sites, as on two machines, with one database, the same secrets and the same artifacts."""
    shared = {
        "DATABASE_URL": server.make_database("shared"),
        "SECRET_KEY": secrets.token_urlsafe(48),
        "KEY_PEPPER": secrets.token_urlsafe(48),
        "ARTIFACTS_DIR": str(tmp_path_factory.mktemp("artifacts")),
        "INFERENCE_WORKERS": "1",
    }
    with start_site(**shared) as first, start_site(key=first.key, **shared) as second:
        yield [first, second]


def test_a_cap_worth_100_calls_serves_exactly_100_over_two_gateways(gateways: list[Site]) -> None:
    for number in range(2):
        key = gateways[0].issue_key(name=f"capped {number}", monthly_cap_nanos=100 * ONE_TOKEN_NANOS)
        callers = [Caller(gateways[index % 2].port, key["secret"]) for index in range(64)]
        last_answer = [time.monotonic()]

        def call_while_any_is_served(index: int, callers: list[Caller] = callers, last: list[float] = last_answer) -> list[Answer]:
            answers: list[Answer] = []
            while time.monotonic() - last[0] < PATIENCE_S:
                answers.append(callers[index].predict({"input_data": "good"}))
                if answers[-1].status == 200:
                    last[0] = time.monotonic()
                else:
                    time.sleep(0.2)
            return answers

        told = at_once(64, call_while_any_is_served)

        assert not [error for error in told if isinstance(error, Exception)]
        served = [sum(answer.status == 200 for index in range(half, 64, 2) for answer in told[index]) for half in (0, 1)]
        print(f"served by each: {served}")
        assert statuses(answer for answers in told for answer in answers).keys() == {200, 402}
        assert sum(served) == gateways[0].events_of(key["id"]) == 100
        assert min(served) > 0  # Both took part.


def test_a_key_revoked_at_one_gateway_fails_at_the_other_within_a_second(gateways: list[Site]) -> None:
    first, second = gateways
    key = first.issue_key(name="to be revoked")
    caller = Caller(second.port, key["secret"])
    assert caller.predict().status == 200

    first.revoke_key(key["id"])

    time.sleep(1.0)
    assert (caller.predict().status, caller.predict().code) == (401, "key_revoked")


def test_50_parallel_duplicates_over_two_gateways_are_charged_once(gateways: list[Site]) -> None:
    key = gateways[0].issue_key(name="duplicates")

    def call_until_answered(index: int) -> Answer:
        caller = Caller(gateways[index % 2].port, key["secret"])
        for _ in range(200):
            answer = caller.predict({"input_data": "good film"}, idempotency_key="over both")
            if answer.status != 409:
                return answer
            time.sleep(0.02)
        raise AssertionError

    answers = at_once(50, call_until_answered)

    assert statuses(answers) == {200: 50}
    assert len({answer.body for answer in answers}) == 1
    assert gateways[0].events_of(key["id"]) == 1


@pytest.mark.timeout(180)
def test_one_of_two_gateways_killed_leaves_the_other_serving_and_the_books_whole(gateways: list[Site]) -> None:
    with crowded(*gateways):
        for _ in range(3):
            time.sleep(0.7)
            gateways[1].kill_gateway()
            assert Caller(gateways[0].port, None).get("/readyz").status == 200
            gateways[1].wait_until_healthy(timeout_s=60)


@contextmanager
def crowded(*sites: Site) -> Iterator[tuple[Crowd, random.Random]]:
    """Have a crowd call the sites meanwhile; afterwards all that they were told is in whole books.

    Whatever was answered was charged once, what was not was not or was refunded, and nothing is held any more.
    So nobody else may call meanwhile.
    """
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    with sites[0].database() as database:
        before = event_ids(database)
    with Crowd(*sites, seed=seed) as crowd:
        yield crowd, random.Random(seed)
    print(len(crowd.told.answered), crowd.told.refused, crowd.told.unknown)
    assert not crowd.told.wrong
    assert len(crowd.told.answered) > 50
    with sites[0].database() as database:
        wait_until_nothing_is_held(database, timeout_s=60)
        assert_books_fold(database)
        assert_nothing_was_lost_or_doubled(database, crowd.told.answered, before=before)
