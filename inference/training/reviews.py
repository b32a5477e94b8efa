"""Rated reviews and their split into training, validation and test."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from inference.pipelines.text import words
from inference.training.errors import DataUnreadable
from inference.training.sources import read_tar_member

_RESOURCES: Final = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
_SNIPPETS: Final = "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"
_LEXICON: Final = "vaderSentiment-3.3.2/vaderSentiment/vader_lexicon.txt"
# A rating at least this far from neutral is one on which twenty readers clearly agreed.
CLEAR_RATING: Final = 1.0


@dataclass(frozen=True, slots=True)
class Review:
    """A text and its rating from -4 (most negative) to 4 (most positive), never 0."""

    text: str
    rating: float

    @property
    def is_positive(self) -> bool:
        """Whether the label is "positive"."""
        return self.rating > 0

    @property
    def is_clear(self) -> bool:
        """Whether the rating is at least 1 away from neutral."""
        return abs(self.rating) >= CLEAR_RATING


@dataclass(frozen=True, kw_only=True, slots=True)
class Splits:
    """Reviews to learn from, to choose by, and to measure on once."""

    train: list[Review]
    validation: list[Review]
    test: list[Review]


def read_snippets(sdist: Path) -> list[Review]:
    """Return the 10,605 movie snippets of Hutto & Gilbert (2014), rated by 20 people each.

    Source: C.J. Hutto, E. Gilbert, "VADER: A Parsimonious Rule-based Model for Sentiment
    Analysis of Social Media Text", ICWSM-14; lines of `id <tab> mean rating <tab> text`.
    """
    content = read_tar_member(read_tar_member(sdist, _RESOURCES), _SNIPPETS).decode("utf-8")
    reviews = []
    for number, line in enumerate(content.splitlines(), start=1):
        fields = line.split("\t")
        if len(fields) != 3:
            raise DataUnreadable(_SNIPPETS, f"line {number} has {len(fields)} columns, not 3")
        reviews.append(Review(fields[2].strip(), float(fields[1])))
    return reviews


def read_lexicon(sdist: Path) -> dict[str, float]:
    """Return VADER's valence of each word, -4 to 4: ten people's mean rating of the word alone."""
    lines = read_tar_member(sdist, _LEXICON).decode("utf-8").splitlines()
    return {fields[0]: float(fields[1]) for fields in (line.split("\t") for line in lines)}


def read_folder(folder: Path) -> list[Review]:
    """Return the reviews under `pos/` and `neg/`, as aclImdb lays them out (`id_stars.txt`).

    One to ten stars become -4 to 4 around the midpoint 5.5; without stars the folder says +-2.
    """
    reviews = []
    for label, sign in (("pos", 1.0), ("neg", -1.0)):
        for path in sorted((folder / label).glob("*.txt")):
            _, mark, stars = path.stem.rpartition("_")
            rating = (int(stars) - 5.5) * 4 / 4.5 if mark and stars.isdigit() else 2.0
            text = path.read_text(encoding="utf-8").replace("<br />", " ").strip()
            reviews.append(Review(text, sign * abs(rating)))
    if not reviews:
        raise DataUnreadable(folder.name, "no .txt files under pos/ or neg/")
    return reviews


def usable(reviews: Iterable[Review], *, taken: Iterable[Review] = ()) -> list[Review]:
    """Drop exact-zero ratings, texts without words and repeated texts, in order.

    Texts are the same when their words are: a copy that differs in case or spacing alone
    would put a test text into training. Texts of `taken` count as seen.
    """
    seen = {tuple(words(review.text)) for review in taken} | {()}
    kept = []
    for review in reviews:
        key = tuple(words(review.text))
        if review.rating != 0 and key not in seen:
            seen.add(key)
            kept.append(review)
    return kept


def split_reviews(reviews: Sequence[Review], *, seed: int) -> Splits:
    """Shuffle by seed; hold out 15 % for the test and 10 % for validation."""
    kept = usable(reviews)
    random.Random(seed).shuffle(kept)  # noqa: S311 - a split, not a secret
    test, validation = round(len(kept) * 0.15), round(len(kept) * 0.10)
    return Splits(test=kept[:test], validation=kept[test : test + validation], train=kept[test + validation :])


def split_folders(root: Path, *, seed: int) -> Splits:
    """Keep aclImdb's own `test/` for the test; hold out 10 % of its `train/` for validation."""
    test = usable(read_folder(root / "test"))
    kept = usable(read_folder(root / "train"), taken=test)
    random.Random(seed).shuffle(kept)  # noqa: S311 - a split, not a secret
    validation = round(len(kept) * 0.10)
    return Splits(test=test, validation=kept[:validation], train=kept[validation:])
