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
            however rare. They are not words of the held-out texts but of public lists.
        limit: The longest vocabulary; the most frequent words win, then Unicode order.
    """
    counts = count_words(texts)
    chosen = {word for word, count in counts.items() if count >= min_texts} | set(known)
    chosen -= {PAD, UNKNOWN}
    ranked = sorted(chosen, key=lambda word: (-counts[word], word))[: limit - 2]
    return [PAD, UNKNOWN, *sorted(ranked)]


def write_vocabulary(path: Path, vocabulary: Sequence[str]) -> None:
    """Write one token a line, in UTF-8 with `\\n`, the same bytes on every system."""
    path.write_text("".join(f"{word}\n" for word in vocabulary), encoding="utf-8", newline="\n")


def read_vocabulary(path: Path) -> dict[str, int]:
    """Return each token's id. Only `\\n` ends a line: some words hold exotic line ends."""
    lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    return {word: number for number, word in enumerate(lines)}
