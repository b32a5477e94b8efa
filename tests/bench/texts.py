"""What is sent: 2,000 movie-review snippets, or texts of the same lengths where the data is not at hand."""

import json
import random
from pathlib import Path

from inference.pipelines.text import words
from inference.training.reviews import read_snippets

COUNT = 2_000
_HERE = Path(__file__).parent


def load_texts(*, datasets: Path, vocabulary: Path, seed: int = 1) -> tuple[list[str], str]:
    """Return the texts and what they are.

    What a call costs depends on how many tokens it has, not on which: texts made of the
    vocabulary's words, with lengths drawn from the real ones' histogram, measure the same.
    """
    choose = random.Random(seed)
    sdist = next(iter(sorted(datasets.glob("vaderSentiment-*.tar.gz"))), None)
    if sdist:
        reviews = [review.text for review in read_snippets(sdist) if words(review.text)]
        return choose.sample(reviews, COUNT), f"{COUNT} real snippets of {sdist.name}"
    histogram = {int(length): count for length, count in json.loads((_HERE / "lengths.json").read_text())["histogram"].items()}
    known = [word for word in vocabulary.read_text().splitlines()[2:] if words(word) == [word]]
    lengths = choose.choices(list(histogram), list(histogram.values()), k=COUNT)
    return [" ".join(choose.choices(known, k=length)) for length in lengths], f"{COUNT} texts of the lengths in lengths.json"
