"""Every node test of the `onnx` wheel, through the engine: answered as its reference is, or refused with the reason."""

import asyncio
import re
import warnings
from collections import Counter
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import numpy_helper

from inference.artifacts import Bundle
from inference.engine import Engine
from inference.errors import InferenceError, ModelFailed, ModelLoadFailed
from inference.pool import WorkerSettings
from inference.values import array_of
from tests.inference.graphs import write_raw
from tests.inference.running import running

# Why a model is not taken, and how many of the wheel's are not for this reason.
_REFUSED: Final = {
    r"cannot be sent": 191,  # BFLOAT16, 8-bit and smaller floats, 2- and 4-bit integers: the protocol has no name for them.
    r"only tensors can be sent": 24,  # Sequences and optional values as inputs.
    r"onnxruntime::Model::Model|ValidateOpsetForDomain": 202,  # IR or opset newer than ONNX Runtime 1.31 has.
    r"Could not find an implementation": 26,
    r"is not a registered function": 18,  # Preview and training operators.
    r"invalid model": 11,  # Attributes newer than ONNX Runtime has.
    r"locale|Exception during initialization": 7,  # StringNormalizer wants en_US.UTF-8; recurrent layers of layout 1.
}
# What ONNX Runtime answers otherwise than the reference does, or fails on, when it is called by itself as well.
_ONNX_RUNTIMES_OWN: Final = frozenset(
    {
        "test_attention_4d_diff_heads_mask4d_padded_kv",
        "test_attention_4d_with_past_and_present_qk_matmul_bias_3d_mask_causal",
        "test_attention_4d_with_past_and_present_qk_matmul_bias_4d_mask_causal",
        "test_convinteger_with_padding",
        "test_maxunpool_export_with_output_shape",
        "test_reduce_max_empty_set_bool",
        "test_resize_downsample_scales_cubic_align_corners",
        "test_resize_downsample_scales_linear_align_corners",
        # Random: which elements fall out is nobody's promise.
        "test_training_dropout",
        "test_training_dropout_default",
        "test_training_dropout_default_mask",
        "test_training_dropout_mask",
    }
)
# Spectra and half precision differ in the last digits.
_ABSOLUTE: Final = 1e-3


def _array(value: Any) -> npt.NDArray[Any]:
    array = numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)
    if array.dtype.kind not in "OU":
        return array
    texts = np.empty(array.shape, dtype=object)
    texts.ravel()[:] = [str(text).encode() for text in array.flat]
    return texts


def _agrees(got: npt.NDArray[Any], want: Any, *, rtol: float) -> bool:
    expected = array_of("expected", want) if want is None or isinstance(want, list | dict) else _array(want)
    if expected.dtype.kind == "O":
        return got.shape == expected.shape and got.tolist() == expected.tolist()
    return got.shape == expected.shape and np.allclose(
        got.astype(np.float64), expected.astype(np.float64), rtol=rtol, atol=_ABSOLUTE, equal_nan=True
    )


async def _answers(engine: Engine, bundle: Bundle, case: Any) -> bool:
    """Whether every data set of a case is answered as the reference is."""
    right = True
    for inputs, outputs in case.data_sets:
        feeds = {spec.name: _array(value) for spec, value in zip(bundle.signature.inputs, inputs, strict=False)}
        deadline = asyncio.get_running_loop().time() + 20
        inferred = await engine.infer_tensors(bundle, feeds, tenant="corpus", deadline=deadline, allow_nonfinite=True)
        for spec, want in zip(bundle.signature.outputs, outputs, strict=True):
            right &= _agrees(inferred.outputs[spec.name], want, rtol=case.rtol)
    return right


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_wheels_node_tests_are_answered_or_refused(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # The references divide by zero.
        from onnx.backend.test.case.node import collect_testcases

        cases = collect_testcases(None)
    refused: Counter[str] = Counter()
    differ, unexplained, answered = set(), [], 0

    async def scenario() -> None:
        nonlocal answered
        async with running(settings=WorkerSettings(device="cpu")) as engine:
            for case in cases:
                try:
                    bundle = write_raw(tmp_path / case.name, case.model)
                    right = await _answers(engine, bundle, case)
                    await engine.unload(bundle)
                except ModelLoadFailed as error:
                    reason = next((reason for reason in _REFUSED if re.search(reason, error.detail)), None)
                    if reason is None:
                        unexplained.append((case.name, error.detail[:300]))
                    else:
                        refused[reason] += 1
                    continue
                except (ModelFailed, InferenceError) as error:
                    right = False
                    if case.name not in _ONNX_RUNTIMES_OWN:
                        unexplained.append((case.name, str(error)[:300]))
                if right:
                    answered += 1
                else:
                    differ.add(case.name)
            assert engine.stats().restarts == 0  # None of them takes a worker down.

    asyncio.run(scenario())
    print(f"{len(cases)} cases: {answered} answered, {refused.total()} refused, {len(differ)} otherwise than the reference")
    assert not unexplained
    assert differ == _ONNX_RUNTIMES_OWN
    assert dict(refused) == _REFUSED
    assert answered == len(cases) - sum(_REFUSED.values()) - len(_ONNX_RUNTIMES_OWN)
