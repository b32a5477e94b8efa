"""A vocabulary's line numbers are its ids."""

from pathlib import Path

from inference.training.vocabulary import build_vocabulary, read_vocabulary, write_vocabulary


def test_rare_words_are_left_out_unless_they_are_known_from_elsewhere() -> None:
    texts = ["good film", "good plot", "dreadful gaffer"]

    vocabulary = build_vocabulary(texts, min_texts=2, known={"dreadful"}, limit=100)

    assert vocabulary == ["<pad>", "<unk>", "dreadful", "good"]


def test_the_most_frequent_words_stay_when_there_is_no_room() -> None:
    vocabulary = build_vocabulary(["b c", "b c", "c a"], min_texts=1, limit=4)

    assert vocabulary == ["<pad>", "<unk>", "b", "c"]


def test_ids_survive_a_file_even_for_words_with_exotic_line_ends(tmp_path: Path) -> None:
    vocabulary = ["<pad>", "<unk>", "next\x85line", "separator\u2028", "word"]

    write_vocabulary(tmp_path / "vocabulary.txt", vocabulary)

    assert read_vocabulary(tmp_path / "vocabulary.txt") == {word: number for number, word in enumerate(vocabulary)}
