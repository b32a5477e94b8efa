"""The network answers a row the same however it is batched, in PyTorch and in ONNX."""

from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="the train extra is not installed")

from inference.training.errors import ParityBroken  # noqa: E402 - after the skip
from inference.training.export import assert_parity, export_onnx  # noqa: E402 - after the skip
from inference.training.networks import PriorEmbedding, SentimentNetwork, Shape  # noqa: E402 - after the skip

# As the recipe: on a busy machine, two threads of so small a network wait for each other for most of the time.
torch.set_num_threads(1)
_SHAPE = Shape(embedding=12, hidden=8)


def _network(*, seed: int = 1, words: int = 30) -> SentimentNetwork:
    torch.manual_seed(seed)
    embedding = PriorEmbedding(torch.randn(words, 5), dimensions=_SHAPE.embedding)
    torch.nn.init.normal_(embedding.own.weight)
    return SentimentNetwork(embedding, _SHAPE).eval()


def test_padding_changes_no_logit() -> None:
    network = _network()
    ids, lengths = torch.randint(2, 30, (4, 9)), torch.tensor([9, 3, 1, 6])
    padded = ids.masked_fill(torch.arange(9)[None] >= lengths[:, None], 0)

    together = network(padded, lengths)
    alone = torch.cat([network(row[None, :size], size[None]) for row, size in zip(ids, lengths, strict=True)])

    assert torch.allclose(together, alone, atol=1e-6)


def test_what_stands_in_the_padding_does_not_matter() -> None:
    network = _network()
    ids, lengths = torch.randint(2, 30, (2, 6)), torch.tensor([6, 2])
    other = ids.clone()
    other[1, 2:] = 7

    assert torch.equal(network(ids, lengths), network(other, lengths))


def test_the_folded_embedding_answers_as_the_trained_one() -> None:
    embedding = _network().embedding
    ids = torch.arange(30)[None]

    assert torch.allclose(embedding(ids), embedding.folded()(ids), atol=1e-6)


def test_the_export_agrees_with_pytorch_at_mixed_lengths_and_batches(tmp_path: Path) -> None:
    network = _network()
    export_onnx(network, tmp_path / "model.onnx")

    assert assert_parity(network, tmp_path / "model.onnx", words=30, seed=5) <= 1e-5


def test_an_export_of_other_weights_is_refused(tmp_path: Path) -> None:
    export_onnx(_network(seed=1), tmp_path / "model.onnx")

    with pytest.raises(ParityBroken, match=r"model\.onnx differs"):
        assert_parity(_network(seed=2), tmp_path / "model.onnx", words=30, seed=5)
