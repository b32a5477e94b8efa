"""Messages between the gateway and a worker: what was sent comes out, and nothing else does."""

import socket
import struct
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from inference import wire
from inference.arrays import WireError, decode_arrays, encode_arrays
from inference.wire import Frame, FrameReader, Kind

DATATYPES = ["?", "u1", "<u2", "<u4", "<u8", "i1", "<i2", "<i4", "<i8", "<f2", "<f4", "<f8"]
arrays = st.dictionaries(
    st.text(max_size=20),
    st.sampled_from(DATATYPES).flatmap(lambda name: hnp.arrays(np.dtype(name), hnp.array_shapes(min_dims=0, max_dims=4, min_side=0))),
    max_size=4,
)
texts = hnp.arrays(np.dtype(object), hnp.array_shapes(min_dims=0, max_dims=3, min_side=0), elements=st.binary(max_size=9))
frames = st.tuples(st.sampled_from(Kind), st.integers(0, 2**32 - 1), st.binary(max_size=200))


def read_all(chunks: list[bytes], *, max_body_bytes: int = 1_000) -> list[tuple[Kind, int, bytes]]:
    reader = FrameReader(max_body_bytes=max_body_bytes)
    return [(frame.kind, frame.tag, bytes(frame.body)) for chunk in chunks for frame in reader.feed(chunk)]


@given(arrays)
def test_arrays_arrive_as_they_were_sent(sent: dict[str, npt.NDArray[Any]]) -> None:
    received = decode_arrays(memoryview(encode_arrays(sent)))

    assert list(received) == list(sent)
    for name, array in sent.items():
        assert received[name].dtype == array.dtype
        assert received[name].shape == array.shape
        assert received[name].tobytes() == array.tobytes()


@given(st.lists(frames, max_size=5), st.data())
def test_messages_arrive_whole_however_the_stream_is_cut(sent: list[tuple[Kind, int, bytes]], data: st.DataObject) -> None:
    stream = b"".join(wire.encode_frame(kind, tag, body) for kind, tag, body in sent)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    chunks = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]

    assert read_all(chunks) == sent


@given(arrays, st.data())
def test_changed_bytes_are_refused_or_still_describe_themselves(sent: dict[str, npt.NDArray[Any]], data: st.DataObject) -> None:
    body = bytearray(encode_arrays(sent))
    at = data.draw(st.integers(0, len(body) - 1))
    body[at] = data.draw(st.integers(0, 255))

    try:
        received = decode_arrays(memoryview(body))
    except WireError:
        return
    assert sum(array.nbytes for array in received.values()) <= len(body)


@given(arrays, st.data())
def test_arrays_cut_short_are_refused(sent: dict[str, npt.NDArray[Any]], data: st.DataObject) -> None:
    body = encode_arrays(sent)
    end = data.draw(st.integers(0, len(body) - 1))

    with pytest.raises(WireError):
        decode_arrays(memoryview(body)[:end])


def test_a_shape_whose_size_overflows_is_refused_before_anything_is_allocated() -> None:
    body = bytearray(encode_arrays({"x": np.zeros((2, 2), np.float32)}))
    at = body.index(struct.pack("<2Q", 2, 2))
    body[at : at + 16] = struct.pack("<2Q", 2**63, 2)  # The product is 0 in 64 bits.

    with pytest.raises(WireError, match="shape"):
        decode_arrays(memoryview(body))


@pytest.mark.parametrize(
    "stream",
    [b"GET / HTTP/1.1\r\nHost: x\r\n", wire.frame_header(Kind.RUN, 1, 1_001), struct.pack("<2sBxIQ", b"FB", 99, 1, 0)],
    ids=["not ours", "too large", "unknown kind"],
)
def test_a_stream_that_is_not_ours_is_refused(stream: bytes) -> None:
    with pytest.raises(WireError):
        read_all([stream])


def test_arrays_of_objects_are_not_sent() -> None:
    with pytest.raises(TypeError, match="cannot be sent"):
        encode_arrays({"x": np.array(["text"], dtype=object)})


def test_a_blocking_reader_gets_messages_one_by_one_and_then_the_end() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(wire.encode_frame(Kind.PING, 1) + wire.encode_frame(Kind.RUN, 2, b"abc"))
        ours.close()
        received: list[Frame | None] = [wire.receive_frame(theirs, max_body_bytes=10) for _ in range(3)]

    assert [frame and (frame.kind, frame.tag, bytes(frame.body)) for frame in received] == [
        (Kind.PING, 1, b""),
        (Kind.RUN, 2, b"abc"),
        None,
    ]


@given(texts)
def test_texts_arrive_as_they_were_sent(sent: npt.NDArray[Any]) -> None:
    received = decode_arrays(memoryview(encode_arrays({"x": sent})))["x"]

    assert received.shape == sent.shape
    assert received.tolist() == sent.tolist()


@given(texts, st.data())
def test_changed_texts_are_refused_or_still_describe_themselves(sent: npt.NDArray[Any], data: st.DataObject) -> None:
    body = bytearray(encode_arrays({"x": sent}))
    at = data.draw(st.integers(0, len(body) - 1))
    body[at] = data.draw(st.integers(0, 255))

    try:
        received = decode_arrays(memoryview(body))
    except WireError:
        return
    for array in received.values():
        assert array.nbytes <= 8 * len(body)  # A pointer for each text; nothing was allocated for a lie.


@given(st.lists(arrays, max_size=4), st.lists(st.text(max_size=9), max_size=3))
def test_calls_arrive_apart(calls: list[dict[str, npt.NDArray[Any]]], outputs: list[str]) -> None:
    number, names, received = wire.decode_tensor_run(memoryview(wire.encode_tensor_run(7, outputs, calls)))

    assert (number, names) == (7, outputs)
    assert [encode_arrays(call) for call in received] == [encode_arrays(call) for call in calls]


@given(st.lists(arrays, max_size=3), st.data())
def test_a_result_that_was_changed_is_refused_or_still_reads(calls: list[dict[str, npt.NDArray[Any]]], data: st.DataObject) -> None:
    body = bytearray(wire.encode_tensor_result(5, calls))
    body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        wire.decode_tensor_result(memoryview(bytes(body)))
    except WireError:
        return


def test_a_result_that_ends_early_is_refused() -> None:
    body = wire.encode_tensor_result(5, [{"x": np.zeros(3)}])
    for end in range(len(body)):
        with pytest.raises(WireError):
            wire.decode_tensor_result(memoryview(body)[:end])
