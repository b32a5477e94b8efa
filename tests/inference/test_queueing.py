"""The rows that wait for one version: whose turn it is, and who leaves together."""

import asyncio
from typing import Any, cast

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from inference.batching import BatchLimits, StepCosts
from inference.queueing import Call, Row, RowQueue

# Batching saves nothing: only rows of one length run together.
COSTS = StepCosts(tuple(10.0 * rows for rows in range(1, 9)))
ONE = BatchLimits(max_rows=1)


def row(queue: RowQueue, *, tenant: str, length: int = 5) -> Row:
    future = cast("asyncio.Future[Any]", None)  # Queues never look at it.
    call = Call("output", tenant, 0.0, 0.0, future, queue, 1)
    return Row(call, np.zeros(length, np.int64), length)


def take(queue: RowQueue, limits: BatchLimits = ONE) -> list[Row]:
    queue.limits = limits
    return queue.take()


def test_tenants_take_turns_and_each_sends_its_oldest_row() -> None:
    queue = RowQueue("key", number=1, costs=COSTS, limits=ONE)
    a1, a2, a3 = (row(queue, tenant="a", length=length) for length in (9, 1, 5))
    b1, b2 = (row(queue, tenant="b", length=length) for length in (2, 7))
    for waiting in (a1, a2, a3, b1, b2):
        queue.add(waiting)

    assert [take(queue)[0] for _ in range(5)] == [a1, b1, a2, b2, a3]
    assert len(queue) == 0


def test_rows_of_other_tenants_fill_the_batch_of_the_one_whose_turn_it_is() -> None:
    queue = RowQueue("key", number=1, costs=COSTS, limits=ONE)
    a, b, other = row(queue, tenant="a", length=4), row(queue, tenant="b", length=4), row(queue, tenant="b", length=400)
    for waiting in (a, b, other):
        queue.add(waiting)

    assert set(map(id, take(queue, BatchLimits(max_rows=8)))) == {id(a), id(b)}
    assert take(queue) == [other]


def test_a_row_that_is_retried_runs_alone_and_first() -> None:
    queue = RowQueue("key", number=1, costs=COSTS, limits=ONE)
    retried, waiting = row(queue, tenant="a"), row(queue, tenant="a")
    queue.add(retried)
    queue.add(waiting)
    assert take(queue) == [retried]

    queue.add_alone(retried)

    assert take(queue, BatchLimits(max_rows=8)) == [retried]
    assert take(queue, BatchLimits(max_rows=8)) == [waiting]


def test_a_row_that_was_taken_out_never_leaves() -> None:
    queue = RowQueue("key", number=1, costs=COSTS, limits=ONE)
    gone, stays, retried = (row(queue, tenant="a") for _ in range(3))
    queue.add(gone)
    queue.add(stays)
    queue.add_alone(retried)

    for _ in range(2):
        queue.discard(gone)
        queue.discard(retried)

    assert len(queue) == 1
    assert take(queue, BatchLimits(max_rows=8)) == [stays]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 20), st.sampled_from(["add", "alone", "take", "discard"])), max_size=80))
def test_every_row_leaves_exactly_once_whatever_is_done_to_the_queue(steps: list[tuple[str, int, str]]) -> None:
    queue = RowQueue("key", number=1, costs=COSTS, limits=ONE)
    waiting: list[Row] = []
    left: list[Row] = []
    for tenant, length, step in steps:
        if step in ("add", "alone"):
            waiting.append(row(queue, tenant=tenant, length=length))
            queue.add(waiting[-1]) if step == "add" else queue.add_alone(waiting[-1])
        elif step == "discard" and waiting:
            queue.discard(waiting.pop(length % len(waiting)))
        elif step == "take" and len(queue):
            left += take(queue, BatchLimits(max_rows=4))
        assert len(queue) == len(waiting) - len([gone for gone in left if gone in waiting])
    while len(queue):
        left += take(queue, BatchLimits(max_rows=4))

    assert sorted(map(id, left)) == sorted({id(gone) for gone in left})
    assert set(map(id, waiting)) <= set(map(id, left))
