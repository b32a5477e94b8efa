"""Networks: what is trained, and the form of it that is exported."""

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

# Below every LSTM output (they lie in [-1, 1]), so that padding never wins the maximum.
_BELOW_ALL: Final = -2.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """Sizes of the network. An LSTM step costs about 8 x hidden x (input + hidden) x 2 multiplications a layer."""

    embedding: int = 100
    hidden: int = 96
    layers: int = 2
    embedding_dropout: float = 0.3
    layer_dropout: float = 0.3
    head_dropout: float = 0.5


class PriorEmbedding(nn.Module):
    """Word embeddings: a learned projection of fixed features, plus what training adds to each word.

    A word that training shows once keeps, nearly, the place that its features give it; a
    frequent word moves where the task wants it. `folded` is the plain table that is exported.
    """

    features: Tensor

    def __init__(self, features: Tensor, *, dimensions: int) -> None:
        super().__init__()
        rows, width = features.shape
        self.register_buffer("features", features)
        self.projection = nn.Linear(width, dimensions, bias=False)
        nn.init.normal_(self.projection.weight, std=width**-0.5)
        self.own = nn.Embedding(rows, dimensions, padding_idx=0)
        nn.init.zeros_(self.own.weight)

    def forward(self, ids: Tensor) -> Tensor:
        """Return `(batch, time, dimensions)` for ids `(batch, time)`."""
        rows: Tensor = self.projection(self.features[ids]) + self.own(ids)
        return rows

    def folded(self) -> nn.Embedding:
        """Return one embedding table with the same answers, without the features."""
        table = self.projection(self.features) + self.own.weight
        return nn.Embedding.from_pretrained(table.detach().clone(), padding_idx=0)


class SentimentNetwork(nn.Module):
    """Embedding, two-layer bidirectional LSTM over packed sequences, pooling over time, linear.

    Pooling is the mean beside the maximum of the states at real tokens; padding takes part in
    neither, so a row's logit does not depend on the rows it is batched with.
    """

    def __init__(self, embedding: nn.Module, shape: Shape) -> None:
        super().__init__()
        self.embedding = embedding
        self.embedding_dropout = nn.Dropout(shape.embedding_dropout)
        self.lstm = nn.LSTM(
            shape.embedding, shape.hidden, shape.layers,
            batch_first=True, bidirectional=True, dropout=shape.layer_dropout,
        )  # fmt: skip
        self.head_dropout = nn.Dropout(shape.head_dropout)
        self.head = nn.Linear(4 * shape.hidden, 1)  # Two directions, two kinds of pooling.

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Return logits `(batch, 1)` for ids `(batch, time)` and lengths `(batch,)`, each >= 1."""
        embedded = self.embedding_dropout(self.embedding(ids))
        packed = pack_padded_sequence(embedded, lengths, batch_first=True, enforce_sorted=False)
        states, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=ids.shape[1])
        padding = (torch.arange(ids.shape[1], device=ids.device)[None] >= lengths[:, None])[..., None]
        mean = states.masked_fill(padding, 0.0).sum(1) / lengths[:, None]
        highest = states.masked_fill(padding, _BELOW_ALL).max(1).values
        logits: Tensor = self.head(self.head_dropout(torch.cat([mean, highest], 1)))
        return logits


class ServedSentiment(nn.Module):
    """The exported form: probabilities instead of logits, and one plain embedding table."""

    def __init__(self, network: SentimentNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Return the probability of "positive", `(batch, 1)`."""
        return torch.sigmoid(self.network(ids, lengths))
