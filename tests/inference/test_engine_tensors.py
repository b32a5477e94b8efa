"""Calls with the graph's own tensors: through the engine and a worker, and back."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from inference.artifacts import Bundle
from inference.engine import Engine, Inferred
from inference.errors import InvalidInput
from tests.inference.graphs import accumulator, double, share_of_all, shout, write_raw, zip_map
from tests.inference.models import mean_model, write_bundle
from tests.inference.running import ids, infer, running, until


def texts(*values: str) -> npt.NDArray[Any]:
    return np.array([value.encode() for value in values], dtype=object)


def floats(*values: Any) -> npt.NDArray[Any]:
    return np.array(values, np.float32)


async def call(
    engine: Engine, bundle: Bundle, *, outputs: list[str] | None = None, tenant: str = "a", **inputs: npt.NDArray[Any]
) -> Inferred:
    deadline = asyncio.get_running_loop().time() + 20
    return await engine.infer_tensors(bundle, inputs, outputs=outputs, tenant=tenant, deadline=deadline)


def serving(model: onnx.ModelProto, folder: Path, scenario: Callable[[Engine, Bundle], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        async with running() as engine:
            await scenario(engine, write_raw(folder, model))

    asyncio.run(run())


def test_state_goes_in_and_comes_out(tmp_path: Path) -> None:
    async def scenario(engine: Engine, bundle: Bundle) -> None:
        state = floats(0, 1)
        for x in (1, 2, 3):
            inferred = await call(engine, bundle, x=np.array(x, np.float32), state=state)
            state = inferred.outputs["state_out"]
        assert state.tolist() == [6, 7]
        assert inferred.outputs["y"].tolist() == [60, 70]
        inferred = await call(engine, bundle, x=np.array(0, np.float32), state=state, gain=np.array(2, np.float32))
        assert inferred.outputs["y"].tolist() == [12, 14]

    serving(accumulator(), tmp_path, scenario)


def test_only_the_outputs_that_were_asked_for_come_back(tmp_path: Path) -> None:
    async def scenario(engine: Engine, bundle: Bundle) -> None:
        inferred = await call(engine, bundle, outputs=["y"], x=np.array(1, np.float32), state=floats(0, 0))
        assert list(inferred.outputs) == ["y"]
        with pytest.raises(InvalidInput):
            await call(engine, bundle, outputs=["z"], x=np.array(1, np.float32), state=floats(0, 0))

    serving(accumulator(), tmp_path, scenario)


def test_texts_of_any_script_and_shape_come_back_as_they_went(tmp_path: Path) -> None:
    async def scenario(engine: Engine, bundle: Bundle) -> None:
        sent = texts("", "fine film", "值得一看", "\x00", "a" * 70_000)
        inferred = await call(engine, bundle, text=sent)
        assert inferred.outputs["same"].tolist() == sent.tolist()
        assert (await call(engine, bundle, text=texts()[:0])).outputs["same"].shape == (0,)

    serving(shout(), tmp_path, scenario)


def test_maps_come_back_as_json_one_for_each_row(tmp_path: Path) -> None:
    async def scenario(engine: Engine, bundle: Bundle) -> None:
        inferred = await call(engine, bundle, scores=floats([0.25, 0.75], [0.5, 0.5]))
        assert [json.loads(row) for row in inferred.outputs["named"]] == [{"no": 0.25, "yes": 0.75}, {"no": 0.5, "yes": 0.5}]

    serving(zip_map(), tmp_path, scenario)


async def occupy(engine: Engine, bundle: Bundle) -> "asyncio.Task[Inferred]":
    """Give the only worker a batch, so that what comes next waits and may share one."""
    task = asyncio.create_task(call(engine, bundle, x=floats([0, 0, 0]), tenant="first"))
    await until(lambda: engine.stats().batches > 0)
    return task


def test_calls_of_one_form_run_together_and_get_their_own_rows(tmp_path: Path) -> None:
    async def scenario(engine: Engine, bundle: Bundle) -> None:
        await engine.load(bundle)
        await occupy(engine, bundle)
        inputs = [floats(*([number, 0, 1] for _ in range(number))) for number in (1, 2, 3)]
        answers = await asyncio.gather(*(call(engine, bundle, x=x, tenant=str(len(x))) for x in inputs))
        assert [answer.outputs["y"].tolist() for answer in answers] == [(2 * x).tolist() for x in inputs]
        assert [answer.batch_rows for answer in answers] == [6, 6, 6]
        assert engine.stats().batches == 2

    serving(double(), tmp_path, scenario)


def test_a_model_whose_rows_touch_each_other_answers_each_call_alone(tmp_path: Path) -> None:
    async def scenario(engine: Engine, bundle: Bundle) -> None:
        await engine.load(bundle)
        await occupy(engine, bundle)
        answers = await asyncio.gather(*(call(engine, bundle, x=floats([1, 1, number])) for number in (2, 6)))
        assert [answer.outputs["y"].tolist() for answer in answers] == [[[0.25, 0.25, 0.5]], [[0.125, 0.125, 0.75]]]
        assert [answer.batch_rows for answer in answers] == [1, 1]

    serving(share_of_all(), tmp_path, scenario)


def test_what_the_signature_refuses_is_never_queued(tmp_path: Path) -> None:
    async def scenario(engine: Engine, bundle: Bundle) -> None:
        for wrong in ({}, {"x": floats([1, 2])}, {"x": np.zeros((1, 3))}, {"x": floats([1, 2, np.inf])}):
            with pytest.raises(InvalidInput) as refused:
                await call(engine, bundle, **wrong)
            assert refused.value.param == "inputs.x"
        assert engine.stats().batches == 0

    serving(double(), tmp_path, scenario)


def test_a_version_with_a_pipeline_also_takes_its_graphs_tensors(tmp_path: Path) -> None:
    async def scenario() -> None:
        bundle = write_bundle(tmp_path, mean_model())
        async with running() as engine:
            raw = await call(engine, bundle, ids=np.array([[2, 3], [4, 0]]), lengths=np.array([2, 1]))
            assert np.round(1000 * raw.outputs["probability"]).tolist() == [[5], [4]]
            assert (await infer(engine, bundle, ids(2, 3))).outputs["probability"].shape == (1, 1)

    asyncio.run(scenario())


def test_a_version_without_a_pipeline_takes_no_rows(tmp_path: Path) -> None:
    async def scenario(engine: Engine, bundle: Bundle) -> None:
        with pytest.raises(InvalidInput):
            await infer(engine, bundle, ids(1))

    serving(double(), tmp_path, scenario)
