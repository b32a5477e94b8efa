"""The words a model knows: one token a line, the line number is its id."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from inference.pipelines.text import words

PAD: Final = "<pad>"
UNKNOWN: Final = "<unk>"
PAD_ID: Final = 0
UNKNOWN_ID: Final = 1
# Of a text, what is read: the LSTM computes each token in turn, so this bounds a call's cost.
MAX_TOKENS: Final = 512


def count_words(texts: Iterable[str]) -> Counter[str]:
    """Count in how many texts each word occurs."""
    return Counter(word for text in texts for word in set(words(text)))


def build_vocabulary(texts: Iterable[str], *, min_texts: int, known: Iterable[str] = (), limit: int) -> list[str]:
    """Return padding, unknown, and the words of at least `min_texts` texts, in Unicode order.

    Args:
        texts: The training split's texts, and no others: a word of the test split in here
            would be a leak.
        min_texts: Rarer words are read as unknown, so that "unknown" is learned too.
        known: Words with a meaning from elsewhere (a lexicon, pretrained vectors), kept
            however rare, the most useful first. They come from public lists, not from the
            held-out texts.
        limit: The longest vocabulary; the most frequent words stay, then the first known.
    """
    counts = count_words(texts)
    frequent = sorted(word for word, count in counts.items() if count >= min_texts)
    chosen = [word for word in dict.fromkeys([*frequent, *known]) if word not in {PAD, UNKNOWN}]
    ranked = sorted(chosen, key=lambda word: -counts[word])[: limit - 2]  # Stable: ties keep their order.
    return [PAD, UNKNOWN, *sorted(ranked)]


def write_vocabulary(path: Path, vocabulary: Sequence[str]) -> None:
    """Write one token a line, in UTF-8 with line feeds, the same bytes on every system."""
    path.write_text("".join(f"{word}\n" for word in vocabulary), encoding="utf-8", newline="\n")


def read_vocabulary(path: Path) -> dict[str, int]:
    """Return each token's id. Only a line feed ends a line: some words hold exotic line ends."""
    lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    return {word: number for number, word in enumerate(lines)}
