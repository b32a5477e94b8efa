"""The model card: measured facts as JSON, the same for people as Markdown, and the learning curve."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl

mpl.use("Agg")  # No display on a server; must come before pyplot.
import matplotlib.pyplot as plt

from inference.training.train import Epoch

# Okabe & Ito's palette: told apart by people who are colour-blind.
_TRAIN, _VALIDATION = "#0072B2", "#D55E00"


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
    )  # fmt: skip


def plot_learning_curve(path: Path, history: Sequence[Epoch]) -> None:
    """Draw loss and accuracy per epoch as SVG, the same bytes for the same figures."""
    epochs = range(1, len(history) + 1)
    settings = {"svg.hashsalt": "farebox", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 10}
    with mpl.rc_context(settings):
        figure, (losses, accuracies) = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
        losses.plot(epochs, [epoch.train_loss for epoch in history], "o-", color=_TRAIN, label="training (soft targets)")
        losses.plot(
            epochs, [epoch.validation_loss for epoch in history], "s-", color=_VALIDATION, label="validation (labels)"
        )
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
positive out. Above 0.5 the label is "positive", else "negative". Word order counts: "not bad" and "bad, not" differ.

## How good it is

Accuracy on {splits[test]} held-out snippets that were used once, after all choices were made; {clear} of them have a
rating at least 1 away from neutral ("clear").

| | all | clear |
|---|---|---|
{rows}

The baseline saw the same training texts and was tuned on the same validation texts (word n-grams up to
{baseline[ngrams]}, C = {baseline[c]}). With {splits[test]} test texts the standard error is about 0.010: differences of a
point are chance. Over ratings near 0 people disagree too, so that no model comes near 1 on "all".

int8 against float32 on the test texts: largest difference in probability {int8[max_difference]:.4f}, mean
{int8[mean_difference]:.4f}; {int8[flipped]} of {splits[test]} labels flip. ONNX against PyTorch: {parity:.1e} (at most {tolerance:.0e} is let
through), batched with padding or alone.

![Loss and accuracy per epoch](learning-curve.svg)

## What it is made from

{data_text} {splits[train]} texts trained it, {splits[validation]} chose the epoch, {splits[test]} tested it.

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
- Languages other than English: unknown words carry no meaning, and the answer drifts to the average.
- Irony, mixed reviews, quoted opinions and texts without an opinion: it must say positive or negative, and its
  probability is a degree of belief about snippets like those it saw, not a measure of how strong the feeling is.
- Long texts: it was trained on single sentences (median about 20 words). Split a long review and average.
- Names of people, films and groups may carry the bias of the reviews and of the encoder's training texts.

## How to make it again

```sh
pip install -r requirements/train.txt
{recipe}
```

Seed {seed}, trained on {trained_on}. On one machine the same seed gives the same files. Another CPU or another build of
PyTorch adds numbers in another order, and accuracy moves by up to about a point; hence the artifacts are shipped.
"""
