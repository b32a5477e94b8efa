import onnx
import pytest
from onnx import helper

from inference.gate.graph import check_graph
from inference.gate.limits import GateLimits
from inference.gate.report import Check, Outcome
from tests.inference import hostile

LIMITS = GateLimits()


def failures(model: onnx.ModelProto | bytes, limits: GateLimits = LIMITS) -> list[Check]:
    """Return the failed checks of a model, or of bytes."""
    content = model if isinstance(model, bytes) else model.SerializeToString()
    return [check for check in check_graph(content, limits) if check.outcome == Outcome.FAILED]


def test_an_honest_model_fails_nothing() -> None:
    assert failures(hostile.relu()) == []
    assert failures(hostile.laughs(3)) == []
    assert failures(hostile.nests(7)) == []


@pytest.mark.parametrize(
    "make",
    [
        hostile.outside_in_initializer,
        hostile.outside_in_memory,
        hostile.outside_in_attribute,
        hostile.outside_marked_default,
        hostile.outside_in_subgraph,
        hostile.outside_in_function,
        hostile.outside_in_function_default,
        hostile.outside_in_unused_field,
        hostile.outside_in_sparse,
    ],
)
def test_weights_outside_the_file_are_found_wherever_they_hide(make: object) -> None:
    assert callable(make)
    assert "external_data" in {check.name for check in failures(make())}


@pytest.mark.parametrize(
    ("model", "check", "told"),
    [
        (hostile.outside_in_sparse(), "sparse", "Sparse tensors"),
        (hostile.asks_for_186_gb(), "shapes", "50000x1000000"),
        (hostile.wraps_around(), "shapes", "4294967296x4294967296"),
        (hostile.negative_dimension(), "shapes", "negative"),
        (hostile.lies_about_its_size(), "shapes", "holds 4 bytes"),
        (hostile.has_rank(9), "shapes", "rank 9"),
        (hostile.nests(9), "graph", "8 deep"),
        (hostile.has_nodes(20_001), "graph", "20001 nodes"),
        (hostile.laughs(5), "graph", "nodes"),
        (hostile.laughs(6, each=200), "graph", "More than 1,000,000,000 nodes"),
        (hostile.calls_itself(), "graph", "calls itself"),
        (hostile.custom_operator(), "operators", "com.example::Shell"),
        (hostile.contrib_operator(), "operators", "com.microsoft::Tokenizer"),
        (hostile.replaces_operator(), "operators", "'Relu'"),
        (hostile.trains(), "operators", "training"),
        (hostile.named("x" * 257), "names", "longer"),
        (hostile.named("x\x1b[2J"), "names", "not printable"),
        (hostile.named(""), "names", "empty"),
        (hostile.model([helper.make_node("Relu", ["x"], ["y"])], opset=6), "opset", "Opset 6"),
        (hostile.model([helper.make_node("Relu", ["x"], ["y"])], opset=99), "opset", "Opset 99"),
    ],
)
def test_each_trick_fails_the_check_that_is_for_it(model: onnx.ModelProto, check: str, told: str) -> None:
    found = {one.name: one.detail for one in failures(model)}

    assert check in found
    assert told in found[check]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"PK\x03\x04" + b"\0" * 100, "zip archive"),
        (b"\x1f\x8b" + b"\0" * 100, "gzip"),
        (b"\x80\x04\x95" + b"\0" * 100, "pickle"),
        (b"\x20\0\0\0ORTM" + b"\0" * 100, "ONNX Runtime's own format"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        (b"", "no graph"),
        (b"\xff" * 1000, "no ONNX file"),
        (hostile.relu().SerializeToString()[:-10], "no ONNX file"),
        (hostile.nests_beyond_protobuf(10_000), "no ONNX file"),  # Beyond what protobuf itself follows.
    ],
)
def test_what_is_no_onnx_file_is_told_what_it_is(content: bytes, told: str) -> None:
    [check] = failures(content)

    assert check.name == "format"
    assert told in check.detail


def test_a_file_beyond_the_limit_is_not_even_parsed() -> None:
    checks = list(check_graph(b"PK" * 100, GateLimits(max_bytes=199)))

    assert [(check.name, check.outcome) for check in checks] == [("size", Outcome.FAILED)]


def test_an_lstm_of_a_late_opset_is_warned_of_and_not_refused() -> None:
    def recurrent(opset: int) -> Check:
        node = helper.make_node("LSTM", ["x", "w", "r"], ["y"], hidden_size=1)
        content = hostile.model([node], opset=opset).SerializeToString()
        return next(check for check in check_graph(content, LIMITS) if check.name == "cuda_opset")

    assert recurrent(21).outcome == Outcome.PASSED
    assert recurrent(22).outcome == Outcome.WARNED


def test_the_91_byte_model_and_the_endless_loop_are_as_small_as_said() -> None:
    assert len(hostile.asks_for_186_gb().SerializeToString()) < 120
    assert len(hostile.loops_for_ever().SerializeToString()) < 260
