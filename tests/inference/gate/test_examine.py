import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from inference import landlock
from inference.gate.compare import cut_outputs, difference
from inference.gate.examine import Examination, examine
from inference.gate.limits import GateLimits
from inference.gate.report import Outcome, Report
from tests.inference import hostile
from tests.inference.models import mean_model, write_bundle

STARTER = Path(__file__).resolve().parents[3] / "inference" / "starter" / "sentiment"
pytestmark = pytest.mark.skipif(landlock.find_abi() is None, reason="this kernel has no Landlock, so the gate refuses everything")


def examined(folder: Path, model: onnx.ModelProto, *, samples: object = None, **settings: object) -> Examination:
    """Examine a model of raw tensors."""
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    if samples is not None:
        (folder / "samples.json").write_text(samples if isinstance(samples, str) else json.dumps(samples))
    return examine(folder, **settings)  # type: ignore[arg-type]


def outcomes(report: Report) -> dict[str, str]:
    return {check.name: str(check.outcome) for check in report.checks}


def detail(report: Report, name: str) -> str:
    return next(check.detail for check in report.checks if check.name == name)


def test_an_honest_model_passes_and_is_measured(tmp_path: Path) -> None:
    report = examined(tmp_path, hostile.relu(), samples=[{"x": [[1, -1]]}, {"x": [[2, 0], [3, 3]]}]).report

    assert report.passed, report.checks
    assert report.figures["batched"]
    assert report.figures["deterministic"]
    assert report.figures["p50_ms"] <= report.figures["p99_ms"] < 1000
    assert report.figures["peak_memory_bytes"] < 2**30
    assert outcomes(report)["int8"] == "skipped"


def test_a_report_survives_json() -> None:
    report = Report(figures={"a": 1})
    report.add(examine(Path("/nonexistent")).report.checks)

    again = Report.from_json(json.loads(json.dumps(report.as_json())))

    assert again == report
    assert not again.passed


def test_a_text_pipeline_passes_with_its_samples(tmp_path: Path) -> None:
    write_bundle(tmp_path, mean_model())
    (tmp_path / "samples.json").write_text(json.dumps(["good film", ["bad", "dull film !"]]))

    report = examine(tmp_path).report

    assert report.passed, report.checks
    assert detail(report, "samples").startswith("3 of")
    assert report.figures["parity_difference"] < 1e-6


def test_a_pipeline_whose_names_are_not_the_models_fails(tmp_path: Path) -> None:
    write_bundle(tmp_path, mean_model(), output="nothing")

    report = examine(tmp_path).report

    assert outcomes(report)["pipeline"] == "failed"
    assert "'nothing'" in detail(report, "pipeline")


def test_a_model_whose_rows_see_each_other_fails_behind_a_text_pipeline(tmp_path: Path) -> None:
    model = mean_model()
    last = onnx.NodeProto.FromString(model.graph.node.pop().SerializeToString())
    last.input[0] = "mixed"  # The largest total of the batch is added to every row.
    model.graph.node.append(helper.make_node("ReduceMax", ["total"], ["most"], axes=[0], keepdims=1))
    model.graph.node.append(helper.make_node("Add", ["total", "most"], ["mixed"]))
    model.graph.node.append(last)
    model.opset_import[0].version = 17  # There ReduceMax takes its axes as an attribute.
    onnx.checker.check_model(model)
    write_bundle(tmp_path, model)

    report = examine(tmp_path).report

    assert outcomes(report)["parity"] == "failed"
    assert not report.figures["batched"]


def test_raw_tensors_whose_rows_see_each_other_are_run_alone(tmp_path: Path) -> None:
    report = examined(tmp_path, hostile.mixes_rows()).report

    assert report.passed
    assert outcomes(report)["parity"] == "warned"
    assert not report.figures["batched"]


def test_a_model_that_guesses_is_warned_of(tmp_path: Path) -> None:
    report = examined(tmp_path, hostile.guesses()).report

    assert outcomes(report)["determinism"] == "warned"
    assert not report.figures["deterministic"]


def test_a_model_that_takes_no_made_input_needs_samples(tmp_path: Path) -> None:
    without = examined(tmp_path, hostile.picky()).report
    with_samples = examined(tmp_path, hostile.picky(), samples=[{"x": [[700, 703]]}]).report

    assert not without.passed
    assert "Send sample inputs" in detail(without, "made_inputs")
    assert with_samples.passed, with_samples.checks
    assert outcomes(with_samples)["made_inputs"] == "skipped"


@pytest.mark.parametrize(
    ("samples", "told"),
    [
        ("[", "not JSON"),
        ("[" * 20_000, "not JSON"),
        ({"x": [[1, 2]]}, "must be a list"),
        ([], "must be a list"),
        ([{"x": [[1, 2]]}] * 65, "1 to 64"),
        ([{"z": 1}], "must be an object of the inputs x"),
        ([{"x": [1, 2]}], "the shape is 2, and the model takes anyx2"),
        ([{"x": [[1, 2, 3]]}], "the shape is 1x3"),
        ([{"x": [["a", "b"]]}], "Sample 0, input 'x'"),
        ([{"x": [[1], [2, 3]]}], "Sample 0, input 'x'"),
    ],
)
def test_samples_that_do_not_fit_fail_by_name(tmp_path: Path, samples: object, told: str) -> None:
    report = examined(tmp_path, hostile.relu(), samples=samples).report

    assert outcomes(report)["samples"] == "failed"
    assert told in detail(report, "samples")


def test_int8_is_kept_within_the_tolerance_and_only_there(tmp_path: Path) -> None:
    for name in ("model.onnx", "pipeline.json", "vocabulary.txt", "samples.json"):
        (tmp_path / name).symlink_to(STARTER / name)

    kept = examine(tmp_path, int8_tolerance=0.05)
    refused = examine(tmp_path, int8_tolerance=1e-9)

    assert kept.report.passed
    assert refused.report.passed
    assert kept.int8 is not None
    assert refused.int8 is None
    assert outcomes(kept.report)["int8"] == "passed"
    assert outcomes(refused.report)["int8"] == "skipped"
    figures = kept.report.figures["int8"]
    assert 0 < figures["difference"] <= 0.05
    assert figures["size_bytes"] == len(kept.int8) < figures["float32_size_bytes"]


def test_int8_is_not_made_without_samples_or_without_weights(tmp_path: Path) -> None:
    without = examined(tmp_path, hostile.relu(), int8_tolerance=0.5)
    weightless = examined(tmp_path, hostile.relu(), samples=[{"x": [[1, 2]]}], int8_tolerance=0.5)

    assert (without.int8, weightless.int8) == (None, None)
    assert "Without sample inputs" in detail(without.report, "int8")
    assert "nothing that quantization" in detail(weightless.report, "int8")


def test_without_landlock_a_strangers_model_is_refused_unread_and_the_operators_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The process that is started finds no Landlock: its own module says so.
    package = tmp_path / "patched"
    package.mkdir()
    (package / "sitecustomize.py").write_text("from inference import landlock\nlandlock.find_abi = lambda: None\n")
    monkeypatch.setattr("inference.gate.examine._PACKAGE_ROOT", f"{package}:{Path(__file__).resolve().parents[3]}")
    folder = tmp_path / "model"
    folder.mkdir()

    theirs = examined(folder, hostile.relu()).report
    ours = examined(folder, hostile.relu(), trusted=True).report

    assert outcomes(theirs) == {"sandbox": "failed"}
    assert "no Landlock" in detail(theirs, "sandbox")
    assert ours.passed
    assert outcomes(ours)["sandbox"] == "warned"


def test_whoever_waits_is_asked_to_tick(tmp_path: Path) -> None:
    ticks: list[int] = []

    examined(tmp_path, hostile.loops_for_ever(), limits=GateLimits(wall_s=4), on_tick=lambda: ticks.append(1))

    assert len(ticks) >= 2


def test_differences_are_relative_to_the_largest_value_and_strict_in_kind() -> None:
    ones = np.array([1.0, -200.0], np.float32)

    assert difference([ones], [ones + np.float32(2)]) == pytest.approx(0.01)
    assert difference([np.array([0.5])], [np.array([0.75])]) == 0.25
    assert difference([np.array([1])], [np.array([2])]) == float("inf")
    assert difference([np.array([np.nan, 1.0])], [np.array([np.nan, 1.0])]) == 0
    assert difference([np.array([np.nan])], [np.array([1.0])]) == float("inf")
    assert difference([ones], [ones, ones]) == float("inf")
    assert difference([[{"a": 0.5}]], [[{"a": 0.25}]]) == 0.25
    assert difference([[{"a": 0.5}]], [[{"b": 0.5}]]) == float("inf")
    assert cut_outputs([ones, np.float32(1)], 2, 0, 1) is None


def test_a_sequence_of_maps_is_compared_too(tmp_path: Path) -> None:
    nodes = [helper.make_node("ZipMap", ["x"], ["y"], domain="ai.onnx.ml", classlabels_strings=["no", "yes"])]
    output = helper.make_value_info(
        "y",
        helper.make_sequence_type_proto(
            helper.make_map_type_proto(TensorProto.STRING, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
        ),
    )
    made = hostile.model(nodes, outputs=[output], domains=["ai.onnx.ml"])

    report = examined(tmp_path, made, samples=[{"x": [[0.25, 0.75]]}]).report

    assert report.passed, report.checks
    assert report.figures["batched"]


def test_every_outcome_is_one_that_pages_know() -> None:
    assert set(Outcome) == {"passed", "failed", "warned", "skipped"}
