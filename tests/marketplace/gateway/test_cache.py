"""Kept answers: whose they are, what they depend on, and how much of them there is."""

import numpy as np
import pytest

from inference.engine import Inferred
from marketplace.gateway.cache import KEPT_S, CacheKey, ResponseCache, hash_rows, hash_tensors


def answer_of(*numbers: float, size: int = 1) -> Inferred:
    outputs = {"y": np.array(list(numbers) * size, np.float32)}
    return Inferred(outputs=outputs, queue_us=5, infer_us=7, batch_rows=3, provider="cpu")


def key_of(tenant: str = "a", *, livemode: bool = True, bundle: str = "m", text: bytes = b"x") -> CacheKey:
    return CacheKey(tenant, livemode, bundle, text)


def test_an_answer_is_found_by_the_same_key_alone() -> None:
    cache = ResponseCache(max_bytes=10**6)
    cache.keep(key_of(), answer_of(1.5))

    found = cache.find(key_of())

    assert found is not None
    assert (found.outputs["y"].tolist(), found.queue_us, found.infer_us, found.batch_rows) == ([1.5], 0, 0, 0)
    for other in (key_of("b"), key_of(livemode=False), key_of(bundle="n"), key_of(text=b"y")):
        assert cache.find(other) is None


def test_what_is_kept_is_a_copy_that_nobody_can_change() -> None:
    cache = ResponseCache(max_bytes=10**6)
    batch = np.arange(1000, dtype=np.float32)
    cache.keep(key_of(), Inferred(outputs={"y": batch[:2]}, queue_us=0, infer_us=0, batch_rows=1, provider="cpu"))
    batch[:] = -1

    found = cache.find(key_of())

    assert found is not None
    assert found.outputs["y"].tolist() == [0, 1]
    assert found.outputs["y"].base is None  # The batch it came with is not kept with it.
    with pytest.raises(ValueError, match="read-only"):
        found.outputs["y"][0] = 5


def test_what_was_used_longest_ago_makes_room() -> None:
    cache = ResponseCache(max_bytes=20_000)
    for name in ("a", "b", "c"):
        cache.keep(key_of(name), answer_of(1, size=300))
    cache.find(key_of("a"))
    for number in range(7):
        cache.keep(key_of(f"new {number}"), answer_of(1, size=300))

    assert cache.size_bytes <= 20_000
    assert cache.find(key_of("a")) is not None
    assert cache.find(key_of("b")) is None


def test_an_answer_too_large_is_not_kept() -> None:
    cache = ResponseCache(max_bytes=20_000)

    cache.keep(key_of(), answer_of(1, size=1000))

    assert cache.find(key_of()) is None
    assert cache.size_bytes == 0


def test_a_cache_of_no_size_keeps_nothing() -> None:
    cache = ResponseCache(max_bytes=0)
    cache.keep(key_of(), answer_of(1))

    assert cache.find(key_of()) is None


def test_answers_end_after_an_hour() -> None:
    now = [0.0]
    cache = ResponseCache(max_bytes=10**6, clock=lambda: now[0])
    cache.keep(key_of(), answer_of(1))

    now[0] = KEPT_S - 1
    assert cache.find(key_of()) is not None
    now[0] = KEPT_S + 1

    assert cache.find(key_of()) is None
    assert cache.size_bytes == 0


def test_keeping_an_answer_again_counts_it_once() -> None:
    cache = ResponseCache(max_bytes=10**6)
    cache.keep(key_of(), answer_of(1))
    once = cache.size_bytes

    cache.keep(key_of(), answer_of(2))

    assert cache.size_bytes == once


def test_an_organization_is_forgotten_alone() -> None:
    cache = ResponseCache(max_bytes=10**6)
    for tenant in ("a", "b"):
        cache.keep(key_of(tenant), answer_of(1))
        cache.keep(key_of(tenant, livemode=False), answer_of(1))

    cache.forget("a")

    assert [cache.find(key_of(tenant, livemode=live)) is None for tenant in "ab" for live in (True, False)] == [True, True, False, False]


def test_inputs_that_differ_in_anything_have_other_hashes() -> None:
    plain = {"x": np.array([1, 2], np.int32)}
    texts = {"x": np.array([b"ab", b"c", None], np.object_)[:2]}
    variants = [
        hash_tensors(plain, ()),
        hash_tensors({"y": plain["x"]}, ()),
        hash_tensors({"x": plain["x"].astype(np.uint32)}, ()),
        hash_tensors({"x": plain["x"].reshape(1, 2)}, ()),
        hash_tensors({"x": plain["x"][::-1]}, ()),
        hash_tensors(plain, ("y",)),
        hash_tensors(plain, ("y", "z")),
        hash_tensors({**plain, "z": np.zeros(0, np.int8)}, ()),
        hash_tensors(texts, ()),
        hash_tensors({"x": np.array([b"a", b"bc", None], np.object_)[:2]}, ()),
        hash_rows([np.array([1, 2])]),
        hash_rows([np.array([1]), np.array([2])]),
    ]

    assert len(set(variants)) == len(variants)
    assert hash_tensors(plain, ("a", "b")) == hash_tensors({"x": np.array([1, 2], np.int32)}, ("b", "a"))
