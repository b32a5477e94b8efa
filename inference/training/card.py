"""The model card: measured facts as JSON, the same for people as Markdown, and the learning curve."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl

mpl.use("Agg")  # No display on a server; must come before pyplot.
import matplotlib.pyplot as plt

from inference.training.baseline import Baseline
from inference.training.networks import Shape
from inference.training.reviews import Splits
from inference.training.sources import MINILM, VADER, sha256_of
from inference.training.train import Epoch
from inference.training.vocabulary import MAX_TOKENS

# Okabe & Ito's palette: told apart by people who are colour-blind.
_TRAIN, _VALIDATION = "#0072B2", "#D55E00"
_DATA_LICENCE: Final = "MIT (Hutto & Gilbert 2014; the snippets are critics' sentences from a movie-review site)"
_SNIPPETS: Final = {"what": "movie-review snippets and ratings", "from": VADER.requirement, "sha256": VADER.sha256, "licence": "MIT"}
_LEXICON: Final = {"what": "VADER's valence lexicon", "from": VADER.requirement, "sha256": VADER.sha256, "licence": "MIT"}
_ENCODER: Final = {
    "what": "word vectors: sentence-transformers/all-MiniLM-L6-v2",
    "from": MINILM.requirement,
    "sha256": MINILM.sha256,
    "licence": "Apache-2.0",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """What a run was asked for; `folder` says whether it learned from the caller's own texts."""

    seed: int
    epochs: int | None
    folder: bool
    quick: bool
    trained_on: date


def card_facts(
    folder: Path, *, recipe: Recipe, splits: Splits, baseline: Baseline, shape: Shape, history: Sequence[Epoch], measured: dict[str, Any]
) -> dict[str, Any]:
    """Return what `card.json` holds: what was done, and figures that this run measured.

    Args:
        folder: Holds the finished artifacts; their hashes and sizes go on the card.
        recipe: What was asked for.
        splits: The reviews, for their number.
        baseline: The bar, from the same splits.
        shape: The network's.
        history: All epochs; the best is the one with the least validation loss.
        measured: `accuracy`, `parity`, `int8` and `parameters` of the exported artifacts.
    """
    best = min(range(len(history)), key=lambda number: history[number].validation_loss)
    artifacts = ("model.onnx", "model.int8.onnx", "vocabulary.txt", "pipeline.json", "learning-curve.svg")
    return {
        "name": "sentiment",
        "owner": "farebox",
        "title": "Movie-review sentiment (LSTM)",
        "summary": "Says whether a short English review is positive or negative, with a probability.",
        "task": "text-classification",
        "labels": ["negative", "positive"],
        "licence": {
            "weights": "MIT",
            "data": "the folder's own" if recipe.folder else _DATA_LICENCE,
        },
        "citation": (
            "C.J. Hutto, E. Gilbert. VADER: A Parsimonious Rule-based Model for Sentiment Analysis "
            "of Social Media Text. ICWSM-14, Ann Arbor, 2014."
        ),
        "data": _describe(recipe),
        "sources": _sources(recipe),
        "splits": {
            "train": len(splits.train),
            "validation": len(splits.validation),
            "test": len(splits.test),
            "test_clear": sum(review.is_clear for review in splits.test),
        },
        "seed": recipe.seed,
        "network": asdict(shape),
        "training": {
            "epochs_run": len(history),
            "best_epoch": best + 1,
            "validation_accuracy": history[best].validation_accuracy,
            "max_tokens": MAX_TOKENS,
            "parameters": measured["parameters"],
        },
        "accuracy": {**measured["accuracy"], "baseline": {"all": baseline.accuracy, "clear": baseline.clear_accuracy}},
        "baseline": {"kind": "TF-IDF + logistic regression", **asdict(baseline)},
        "parity": measured["parity"],
        "int8": measured["int8"],
        "files": {name: {"sha256": sha256_of(folder / name), "size_bytes": (folder / name).stat().st_size} for name in artifacts},
        "recipe": _command(recipe),
        "versions": {name: version(name) for name in ("torch", "numpy", "onnx", "onnxruntime-gpu")},
        "trained_on": recipe.trained_on.isoformat(),
    }


def _sources(recipe: Recipe) -> list[dict[str, str]]:
    """Return what the model was made from. A folder replaces the snippets; a quick run has no encoder."""
    used = [] if recipe.folder else [_SNIPPETS]
    return [*used, _LEXICON] if recipe.quick else [*used, _LEXICON, _ENCODER]


def _describe(recipe: Recipe) -> str:
    if recipe.folder:
        return "Reviews from a folder in aclImdb's layout, with its own test split."
    return (
        "10,605 movie-review snippets, each rated from -4 to 4 by 20 people; the label is the sign of the mean. "
        "Ratings of exactly 0 and repeated texts are dropped; 15 % are held out by a seeded shuffle."
    )


def _command(recipe: Recipe) -> str:
    parts = ["python manage.py train sentiment", f"--seed {recipe.seed}"]
    parts += [f"--epochs {recipe.epochs}"] if recipe.epochs else []
    parts += ["--data aclImdb"] if recipe.folder else []
    parts += ["--quick"] if recipe.quick else []
    return " ".join(parts)


def write_card(folder: Path, card: dict[str, Any]) -> None:
    """Write `card.json` and `card.md` of the same facts."""
    content = json.dumps(card, indent=2, ensure_ascii=False) + "\n"
    (folder / "card.json").write_text(content, encoding="utf-8", newline="\n")
    (folder / "card.md").write_text(render_card(card), encoding="utf-8", newline="\n")


def render_card(card: dict[str, Any]) -> str:
    """Return the card as Markdown; every figure comes from `card`."""
    accuracy, splits, int8 = card["accuracy"], card["splits"], card["int8"]
    rows = "\n".join(
        f"| {title} | {accuracy[name]['all']:.3f} | {accuracy[name]['clear']:.3f} |"
        for title, name in (
            ("This model, float32", "float32"),
            ("This model, int8", "int8"),
            ("TF-IDF + logistic regression", "baseline"),
        )
    )
    sources = "\n".join(f"- {source['what']} ({source['licence']}): {source['from']}" for source in card["sources"])
    return _TEMPLATE.format(
        title=card["title"], summary=card["summary"], rows=rows, sources=sources, splits=splits,
        baseline=card["baseline"], shape=card["network"], training=card["training"], int8=int8,
        parity=card["parity"]["max_difference"], tolerance=card["parity"]["tolerance"],
        recipe=card["recipe"], seed=card["seed"], trained_on=card["trained_on"],
        weights=card["licence"]["weights"], data=card["licence"]["data"], data_text=card["data"],
        citation=card["citation"], clear=splits["test_clear"],
        error=math.sqrt(accuracy["float32"]["all"] * (1 - accuracy["float32"]["all"]) / splits["test"]),
    )  # fmt: skip


def plot_learning_curve(path: Path, history: Sequence[Epoch]) -> None:
    """Draw loss and accuracy per epoch as SVG, the same bytes for the same figures."""
    epochs = range(1, len(history) + 1)
    settings = {"svg.hashsalt": "farebox", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 10}
    with mpl.rc_context(settings):
        figure, (losses, accuracies) = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
        losses.plot(epochs, [epoch.train_loss for epoch in history], "o-", color=_TRAIN, label="training (soft targets)")
        losses.plot(epochs, [epoch.validation_loss for epoch in history], "s-", color=_VALIDATION, label="validation (labels)")
        losses.set(title="Loss (binary cross-entropy)", xlabel="epoch")
        losses.legend(frameon=False)
        accuracies.plot(epochs, [epoch.validation_accuracy for epoch in history], "s-", color=_VALIDATION)
        accuracies.set(title="Validation accuracy", xlabel="epoch")
        for axes in (losses, accuracies):
            axes.spines[["top", "right"]].set_visible(False)
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.grid(axis="y", alpha=0.3)
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
        plt.close(figure)


_TEMPLATE: Final = """\
# {title}

{summary}

## What it does

One English text in (up to {training[max_tokens]} tokens; the rest is cut), the probability that its author's view is
positive out. Above 0.5 the label is "positive", else "negative".

## How good it is

Accuracy on {splits[test]} held-out texts that took no part in training or in choosing; {clear} of them have a rating
at least 1 away from neutral ("clear").

| | all | clear |
|---|---|---|
{rows}

The baseline saw the same training texts and was tuned on the same validation texts (word n-grams up to
{baseline[ngrams]}, C = {baseline[c]}). With {splits[test]} test texts the standard error is {error:.3f}: a difference
as small as that is chance. Near a rating of 0 people disagree too, so that no model comes near 1 on "all".

int8 against float32 on the test texts: largest difference in probability {int8[max_difference]:.4f}, mean
{int8[mean_difference]:.4f}; {int8[flipped]} of {splits[test]} labels flip. int8 rounds activations by the range of the whole batch, so an
answer also depends a little on the rows it is batched with: alone against batched by at most {int8[batching][max_difference]:.4f}, {int8[batching][flipped]}
labels flip. float32 does not have this: ONNX against PyTorch, batched with padding or alone, differs by {parity:.1e}
(at most {tolerance:.0e} is let through).

![Loss and accuracy per epoch](learning-curve.svg)

## What it is made from

{data_text}
{splits[train]} texts trained it, {splits[validation]} chose the epoch, {splits[test]} tested it.

{sources}

Network: {shape[embedding]}-dimensional word embeddings, a {shape[layers]}-layer bidirectional LSTM of {shape[hidden]} units over packed sequences,
mean and maximum over time, one linear unit. Embeddings start from two public sources of word meaning, the vectors of a
pretrained encoder and VADER's rated lexicon, through a projection that is learned with the task. Loss: binary
cross-entropy with logits against sigmoid(rating), Adam, {training[epochs_run]} epochs, the epoch with the least validation loss
(number {training[best_epoch]}), weights averaged over steps. {training[parameters]} parameters are served.

Licence of the weights: {weights}. Licence of the data: {data}.
Cite: {citation}

## What not to use it for

- Decisions about people: hiring, credit, moderation without a human. It has learned film critics' taste of about 2002.
- Languages other than English: unknown words carry no meaning, and the answer stays near 0.5 on either side.
- Irony, mixed reviews, quoted opinions and texts without an opinion: it must say positive or negative, and its
  probability is a degree of belief about snippets like those it saw, not a measure of how strong the feeling is.
- Negation is half learned: "not good" and "hardly a success" are read rightly, "not bad" and "never boring" are not.
- Long texts: it was trained on single sentences (median about 20 words). Split a long review and average.
- Names of people, films and groups may carry the bias of the reviews and of the encoder's training texts.

## How to make it again

```sh
pip install -r requirements/train.txt
{recipe}
```

Seed {seed}, trained on {trained_on}. On one machine the same seed gives the same files. Another CPU or another build of
PyTorch adds numbers in another order: expect accuracy to move within about a standard error. Hence the artifacts are shipped.
"""
