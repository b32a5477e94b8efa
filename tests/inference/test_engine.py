"""The engine with real worker processes: what is answered, and what happens when things go wrong."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from inference.artifacts import Bundle
from inference.engine import Engine, Inferred
from tests.inference.models import mean_model, write_bundle


def ids(*values: int) -> npt.NDArray[np.int64]:
    return np.array(values, dtype=np.int64)


@asynccontextmanager
async def running(**settings: Any) -> AsyncIterator[Engine]:
    engine = Engine(**({"workers": 1} | settings))
    await engine.start()
    try:
        yield engine
    finally:
        await engine.stop(drain_s=5)


async def infer(engine: Engine, bundle: Bundle, *rows: npt.NDArray[np.int64], tenant: str = "a", within_s: float = 10) -> Inferred:
    deadline = asyncio.get_running_loop().time() + within_s
    return await engine.infer(bundle, rows, tenant=tenant, deadline=deadline)


def test_a_call_is_answered_with_one_output_per_row_in_the_order_of_its_rows(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path, mean_model())

    async def scenario() -> Inferred:
        async with running() as engine:
            return await infer(engine, bundle, ids(2, 3, 4), ids(5), ids(2, 2))

    answer = asyncio.run(scenario())

    np.testing.assert_allclose(answer.outputs["probability"], [[0.009], [0.005], [0.004]], rtol=1e-6)
    assert answer.provider == "cpu"
