"""The training loop: epochs, averaging of weights, early stopping."""

import copy
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from tqdm import tqdm

from inference.pipelines.text import token_ids
from inference.training.networks import SentimentNetwork
from inference.training.reviews import Review
from inference.training.vocabulary import PAD_ID, UNKNOWN_ID


@dataclass(frozen=True, slots=True)
class Example:
    """A review as ids `(time,)` and its rating."""

    ids: Tensor
    rating: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """How long and how fast to learn.

    `sharpness` turns a rating into the target sigmoid(sharpness x rating): +4 is nearly
    certain, +0.2 is hardly more than a coin toss, which is what twenty raters said.
    """

    epochs: int = 10  # The one-cycle ends here; the best is the 7th or 8th with the shipped reviews.
    patience: int = 3
    batch_rows: int = 64
    learning_rate: float = 2e-3
    clip_norm: float = 1.0
    sharpness: float = 1.0
    unknown_share: float = 0.03  # Words read as unknown while learning, or "unknown" would learn nothing.
    averaging: float = 0.995  # Per step: the mean reaches back about 200 steps, 1.6 epochs.


@dataclass(frozen=True, kw_only=True, slots=True)
class Epoch:
    """One epoch's figures, for the plot."""

    train_loss: float
    validation_loss: float
    validation_accuracy: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Measure:
    """Loss and accuracy of a network on a split."""

    loss: float
    accuracy: float
    clear_accuracy: float


def encode_reviews(reviews: Iterable[Review], vocabulary: Mapping[str, int], *, max_tokens: int) -> list[Example]:
    """Return each review as ids, cut to `max_tokens`, by the tokenizer that serves."""
    return [
        Example(torch.tensor(token_ids(review.text, vocabulary, unknown_id=UNKNOWN_ID, max_tokens=max_tokens)), review.rating)
        for review in reviews
    ]


def pad_batch(examples: Sequence[Example]) -> tuple[Tensor, Tensor, Tensor]:
    """Return ids `(batch, longest)`, lengths `(batch,)` and ratings `(batch, 1)`."""
    ids = nn.utils.rnn.pad_sequence([example.ids for example in examples], batch_first=True, padding_value=PAD_ID)
    lengths = torch.tensor([len(example.ids) for example in examples])
    return ids, lengths, torch.tensor([[example.rating] for example in examples])


def shuffled_batches(examples: Sequence[Example], *, rows: int, rng: random.Random) -> Iterator[list[Example]]:
    """Yield every example once, in random batches of similar length.

    Twenty batches' worth of random examples are sorted by length and cut, so that a batch has
    little padding; then the batches are shuffled, so that lengths come in no order.
    """
    order = list(examples)
    rng.shuffle(order)
    batches = []
    for start in range(0, len(order), 20 * rows):
        pool = sorted(order[start : start + 20 * rows], key=lambda example: len(example.ids))
        batches += [pool[first : first + rows] for first in range(0, len(pool), rows)]
    rng.shuffle(batches)
    yield from batches


def measure(network: SentimentNetwork, examples: Sequence[Example]) -> Measure:
    """Return loss against the hard labels, and accuracy on all and on clear ratings."""
    network.eval()
    ordered = sorted(examples, key=lambda example: len(example.ids))
    logits, ratings = [], []
    with torch.inference_mode():
        for start in range(0, len(ordered), 128):
            ids, lengths, rated = pad_batch(ordered[start : start + 128])
            logits.append(network(ids, lengths))
            ratings.append(rated)
    logit, rating = torch.cat(logits), torch.cat(ratings)
    right = ((logit > 0) == (rating > 0)).float()
    loss = nn.functional.binary_cross_entropy_with_logits(logit, (rating > 0).float())
    return Measure(loss=loss.item(), accuracy=right.mean().item(), clear_accuracy=right[rating.abs() >= 1].mean().item())


def train_network(
    network: SentimentNetwork, *, train: Sequence[Example], validation: Sequence[Example], schedule: Schedule, seed: int
) -> tuple[SentimentNetwork, list[Epoch]]:
    """Return the averaged network of the epoch with the least validation loss, and all epochs.

    Adam with a one-cycle learning rate (Smith & Topin 2018). What is validated and returned is
    the exponential mean of the weights: single steps on 9,000 noisy snippets jump about.
    """
    rng = random.Random(seed)  # noqa: S311 - an order, not a secret
    steps = -(-len(train) // schedule.batch_rows) * schedule.epochs
    optimizer = torch.optim.Adam(network.parameters(), lr=schedule.learning_rate)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, schedule.learning_rate, total_steps=steps + 1, pct_start=0.15)
    average = copy.deepcopy(network)
    best, best_loss, stale, history = copy.deepcopy(network), float("inf"), 0, []
    with tqdm(total=steps, desc="training", unit="batch") as bar:
        for _ in range(schedule.epochs):
            losses = []
            for batch in shuffled_batches(train, rows=schedule.batch_rows, rng=rng):
                losses.append(_step(network, optimizer, batch, schedule))
                cycle.step()
                _move_towards(average, network, keep=schedule.averaging)
                bar.update()
            found = measure(average, validation)
            history.append(
                Epoch(
                    train_loss=sum(losses) / len(losses),
                    validation_loss=found.loss,
                    validation_accuracy=found.accuracy,
                )
            )
            bar.set_postfix(loss=f"{found.loss:.4f}", accuracy=f"{found.accuracy:.4f}")
            stale += 1
            if found.loss < best_loss:
                best, best_loss, stale = copy.deepcopy(average), found.loss, 0
            if stale == schedule.patience:
                break
    return best.eval(), history


def _step(network: SentimentNetwork, optimizer: torch.optim.Optimizer, batch: Sequence[Example], schedule: Schedule) -> float:
    """Learn from one batch; return its loss."""
    network.train()
    ids, lengths, ratings = pad_batch(batch)
    hidden = (torch.rand(ids.shape) < schedule.unknown_share) & (ids != PAD_ID)
    ids = ids.masked_fill(hidden, UNKNOWN_ID)
    target = torch.sigmoid(schedule.sharpness * ratings)
    loss = nn.functional.binary_cross_entropy_with_logits(network(ids, lengths), target)
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(network.parameters(), schedule.clip_norm)
    optimizer.step()
    return loss.item()


def _move_towards(average: nn.Module, network: nn.Module, *, keep: float) -> None:
    """Move each averaged weight by `1 - keep` of the way to the trained one."""
    with torch.no_grad():
        for mean, weight in zip(average.parameters(), network.parameters(), strict=True):
            mean.lerp_(weight, 1 - keep)
