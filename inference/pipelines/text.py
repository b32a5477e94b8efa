"""Text to token ids and lengths, by one tokenizer shared by training and serving."""

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

# Apostrophes stay inside words ("don't" is one token, and its sentiment is in the "n't").
_INSIDE_WORD: Final = frozenset("'\u2019")
# Characters remembered per process; about 100 bytes each.
_TABLE_LIMIT: Final = 20_000


def _is_cjk(char: str) -> bool:
    """Whether a character belongs to a script written without spaces, one token each."""
    return "\u3040" <= char <= "\u30ff" or "\u3400" <= char <= "\u9fff" or "\uf900" <= char <= "\ufaff"


class _Separators(dict[int, str]):
    """A `str.translate` table, filled on demand: letters pass, all else is set apart by spaces.

    `str.translate` runs in C and asks this table once per character and process: about
    0.1 us a word, against 1 us for a Python loop.
    """

    def __missing__(self, code: int) -> str:
        char = chr(code)
        category = unicodedata.category(char)
        if char in _INSIDE_WORD:
            out = "'"
        elif _is_cjk(char):
            out = f" {char} "
        elif category[0] in "LNM":
            out = char
        elif category[0] in "ZC":
            out = " "
        else:  # Punctuation and symbols are tokens of their own: "!" carries sentiment.
            out = f" {char} "
        if len(self) < _TABLE_LIMIT:  # A caller who sends all of Unicode must not fill our memory.
            self[code] = out
        return out


_TABLE: Final = _Separators()


def words(text: str) -> list[str]:
    """Split text into lowercase words, numbers, single punctuation marks and CJK characters.

    Apostrophes inside a word are part of it, those around it are quotation marks and go:
    "'fine'" must find the vector of "fine". No regular expression: time is linear in the text
    whatever it holds.
    """
    spaced = f" {text.lower().translate(_TABLE)} "
    return spaced.replace("''", " ").replace(" '", " ").replace("' ", " ").split()


class WordSpan(NamedTuple):
    """A word as `words` gives it, and where it stands in the text: characters `start` to `end`, the latter not included."""

    word: str
    start: int
    end: int


def word_spans(text: str) -> list[WordSpan]:
    """Return the words of `words`, in order, with their places.

    A loop over the characters, 0.5 us each: for explanations, not for every call.
    """
    lowered = text.lower()
    origins: Sequence[int] = range(len(text))
    if len(lowered) != len(text):  # "\u0130" alone becomes two characters; none becomes fewer.
        origins = [place for place, char in enumerate(text) for _ in char.lower()]
    spaced, places = [" "], [0]
    for char, place in zip(lowered, origins, strict=True):
        for out in _TABLE[ord(char)]:
            spaced.append(out)
            places.append(place)
    line = "".join([*spaced, " "])
    places.append(len(text))
    # The same three replacements in the same order, with the places of what is left.
    for quotation in ("''", " '", "' "):
        line, places = _blank(line, places, quotation)
    spans: list[WordSpan] = []
    start = 0
    for word in line.split():
        start = line.index(word, start)
        end = start + len(word)
        spans.append(WordSpan(word, places[start], places[end - 1] + 1))
        start = end
    return spans


def _blank(line: str, places: Sequence[int], pair: str) -> tuple[str, list[int]]:
    """Replace a pair of characters by one space, as `str.replace` does, in a line and its places."""
    kept: list[int] = []
    last = 0
    while (at := line.find(pair, last)) >= 0:
        kept += places[last : at + 1]
        last = at + len(pair)
    return line.replace(pair, " "), [*kept, *places[last:]]


def characters(text: str) -> list[str]:
    """Split text into its lowercase characters, spaces and control characters left out.

    For Chinese, and any script where a character says enough. Full-width and other forms of a
    character are brought to the usual one (NFKC).
    """
    return [span.word for span in character_spans(text)]


def character_spans(text: str) -> list[WordSpan]:
    """Return the characters of `characters`, in order, with their places."""
    return [
        WordSpan(out, place, place + 1)
        for place, char in enumerate(text)
        for out in unicodedata.normalize("NFKC", char).lower()
        if unicodedata.category(out)[0] not in "ZC"
    ]


TOKENIZERS: Final[Mapping[str, Callable[[str], list[str]]]] = {"words": words, "characters": characters}
SPANS: Final[Mapping[str, Callable[[str], list[WordSpan]]]] = {"words": word_spans, "characters": character_spans}


def token_ids(
    text: str, vocabulary: Mapping[str, int], *, unknown_id: int, max_tokens: int, split: Callable[[str], list[str]] = words
) -> list[int]:
    """Return the ids of the text's first `max_tokens` tokens; unknown ones get `unknown_id`."""
    find = vocabulary.get
    return [find(token, unknown_id) for token in split(text)[:max_tokens]]
