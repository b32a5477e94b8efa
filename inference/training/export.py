"""ONNX artifacts of a trained network: float32, dynamic int8, and proof that they answer alike."""

import logging
import os
import random
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

# ONNX Runtime reports usage from Linux by default; both names, before the import.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("ORT_TELEMETRY_DISABLED", "1")

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnxruntime.quantization import QuantType, quantize_dynamic
from torch import Tensor

from inference.training.errors import ParityBroken
from inference.training.networks import SentimentNetwork, ServedSentiment
from inference.training.train import Example, pad_batch

PARITY_TOLERANCE: Final = 1e-5
# From opset 22 on the CUDA provider may not find its LSTM kernel; 17 is old enough for all.
_OPSET: Final = 17


@dataclass(frozen=True, kw_only=True, slots=True)
class Agreement:
    """How far two runs of the same rows are apart, in probability."""

    max_difference: float
    mean_difference: float


def export_onnx(network: SentimentNetwork, path: Path) -> None:
    """Write the network as ONNX: `ids` and `lengths` in, `probability` out, batch and time free."""
    served = ServedSentiment(network).eval()
    ids, lengths = torch.tensor([[2, 3, 4], [2, 3, 0]]), torch.tensor([3, 2])
    with warnings.catch_warnings():
        # The TorchScript exporter is deprecated, and the new one cannot export packed
        # sequences; tracing warns of Python branches inside pack_padded_sequence, whose
        # outcome is the same for every batch; parity is asserted after, at many shapes.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            served, (ids, lengths), str(path), dynamo=False, opset_version=_OPSET,
            input_names=["ids", "lengths"], output_names=["probability"],
            dynamic_axes={
                "ids": {0: "batch", 1: "time"}, "lengths": {0: "batch"}, "probability": {0: "batch"},
            },
        )  # fmt: skip
    model = onnx.load_model(path)
    onnx.checker.check_model(model, full_check=True)


def quantize_int8(source: Path, target: Path) -> None:
    """Write a copy whose LSTM, embedding and linear weights are int8, per output channel.

    Activations stay float32 and are quantized as they come (CPU only).
    """
    logging.disable(logging.WARNING)  # It advises graph clean-up that changes nothing here: the exporter folded constants.
    try:
        quantize_dynamic(source, target, weight_type=QuantType.QInt8, per_channel=True)
    finally:
        logging.disable(logging.NOTSET)


def open_session(path: Path) -> onnxruntime.InferenceSession:
    """Return a single-threaded CPU session, so that sums run in one order on every machine."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3  # Errors: quantized graphs warn about folded constants.
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def run_session(session: onnxruntime.InferenceSession, ids: Tensor, lengths: Tensor) -> NDArray[np.float32]:
    """Return the probabilities `(batch,)` of a padded batch."""
    feed: Mapping[str, NDArray[np.int64]] = {"ids": ids.numpy(), "lengths": lengths.numpy()}
    (probability,) = session.run(["probability"], feed)
    return np.asarray(probability, np.float32)[:, 0]


def answer(session: onnxruntime.InferenceSession, examples: Sequence[Example], *, rows: int = 32) -> NDArray[np.float32]:
    """Return the probability of each example, in order, run in batches of similar length."""
    order = sorted(range(len(examples)), key=lambda row: len(examples[row].ids))
    answers = np.zeros(len(examples), np.float32)
    for start in range(0, len(order), rows):
        batch = order[start : start + rows]
        ids, lengths, _ = pad_batch([examples[row] for row in batch])
        answers[batch] = run_session(session, ids, lengths)
    return answers


def assert_parity(network: SentimentNetwork, path: Path, *, words: int, seed: int) -> float:
    """Return the largest difference between PyTorch and ONNX Runtime over mixed shapes.

    Batches of 1 to 32 rows, 1 to 300 tokens, are run by PyTorch row by row and by ONNX
    Runtime both padded and row by row: one comparison holds the export and the padding.

    Raises:
        ParityBroken: it is over 1e-5.
    """
    rng = random.Random(seed)  # noqa: S311 - made-up inputs
    session, served = open_session(path), ServedSentiment(network).eval()
    worst = 0.0
    for rows, longest in ((1, 1), (1, 7), (2, 2), (3, 40), (8, 25), (16, 120), (32, 60), (4, 300)):
        lengths = [rng.randint(1, longest) for _ in range(rows)]
        made = [Example(torch.tensor([rng.randrange(1, words) for _ in range(size)]), 1.0) for size in lengths]
        ids, sizes, _ = pad_batch(made)
        with torch.inference_mode():
            alone = [served(example.ids[None], torch.tensor([len(example.ids)])) for example in made]
        expected = torch.cat(alone)[:, 0].numpy()
        single = np.concatenate([run_session(session, one.ids[None], torch.tensor([len(one.ids)])) for one in made])
        padded = run_session(session, ids, sizes)
        worst = max(worst, float(np.abs(padded - expected).max()), float(np.abs(single - expected).max()))
    if worst > PARITY_TOLERANCE:
        raise ParityBroken(artifact=path.name, difference=worst, tolerance=PARITY_TOLERANCE)
    return worst


def compare(first: NDArray[np.float32], second: NDArray[np.float32]) -> Agreement:
    """Return the largest and the mean absolute difference of two runs."""
    gap = np.abs(first - second)
    return Agreement(max_difference=float(gap.max()), mean_difference=float(gap.mean()))
