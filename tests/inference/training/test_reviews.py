"""Reviews are read as they were rated, and no text is in two splits."""

import io
import tarfile
from pathlib import Path

import pytest

from inference.pipelines.text import words
from inference.training.errors import DataUnreadable
from inference.training.reviews import Review, read_folder, split_folders, split_reviews, usable
from inference.training.sources import read_tar_member


def _reviews(count: int) -> list[Review]:
    return [Review(f"film number {number}", 1.0 if number % 2 else -1.0) for number in range(count)]


def test_a_text_is_in_one_split_only_however_it_is_written() -> None:
    copies = [Review(review.text.upper() + "  ", review.rating) for review in _reviews(200)]

    splits = split_reviews(_reviews(200) + copies, seed=3)

    parts = (splits.train, splits.validation, splits.test)
    texts = [{tuple(words(review.text)) for review in part} for part in parts]
    assert [len(part) for part in parts] == [150, 20, 30]  # 75 %, 10 % and 15 % of 200.
    assert len(set.union(*texts)) == 200


def test_the_same_seed_gives_the_same_split_and_another_seed_another() -> None:
    first, again, other = (split_reviews(_reviews(100), seed=seed).test for seed in (1, 1, 2))

    assert first == again
    assert first != other


def test_neutral_and_wordless_texts_are_dropped() -> None:
    assert usable([Review("so so", 0.0), Review("   ", 2.0), Review("fine", 0.1)]) == [Review("fine", 0.1)]


def test_stars_become_ratings_around_their_midpoint(tmp_path: Path) -> None:
    for name, text in (("pos/1_10.txt", "great<br />film"), ("neg/2_1.txt", "bad film"), ("neg/3.txt", "no stars")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")

    found = read_folder(tmp_path)

    assert found == [Review("great film", 4.0), Review("bad film", -4.0), Review("no stars", -2.0)]


def test_a_folders_own_test_split_is_kept_and_its_texts_leave_training(tmp_path: Path) -> None:
    for part, texts in (("train", [*"abcdefghij", "shared"]), ("test", ["x", "shared"])):
        for number, text in enumerate(texts):
            path = tmp_path / part / ("pos" if number % 2 else "neg") / f"{number}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")

    splits = split_folders(tmp_path, seed=1)

    assert {review.text for review in splits.test} == {"x", "shared"}
    assert {review.text for review in splits.train + splits.validation} == set("abcdefghij")


def test_an_empty_folder_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(DataUnreadable, match=r"no \.txt files under"):
        read_folder(tmp_path)


def test_a_link_in_an_archive_is_not_followed() -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        link = tarfile.TarInfo("reviews.txt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        tar.addfile(link)

    with pytest.raises(DataUnreadable, match=r"no readable file reviews\.txt"):
        read_tar_member(buffer.getvalue(), "reviews.txt")
