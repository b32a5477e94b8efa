"""BERT's tokenizer as a `tokenizer.json` of the `tokenizers` library describes it: WordPiece, and nothing that needs a regular expression.

Source: huggingface/tokenizers, BertNormalizer, BertPreTokenizer, WordPiece, TemplateProcessing and BertProcessing. One thing is
left out on purpose: what a caller writes is text, so "[SEP]" in it is three words and never the special token.
"""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from inference.pipelines.base import require

_CJK: Final = (
    (0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F), (0x2B740, 0x2B81F), (0x2B820, 0x2CEAF), (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)  # fmt: skip
# Characters and words remembered per tokenizer: a caller who sends all of Unicode must not fill our memory.
_MOST_CHARACTERS: Final = 20_000
_MOST_WORDS: Final = 50_000
# Longer words are unknown ones, as in BERT's own; a file may say less.
_LONGEST_WORD: Final = 100
_MOST_PIECES: Final = 1_000_000


class _Characters(dict[int, str]):
    """A `str.translate` table, filled on demand: what normalizing and splitting make of a character."""

    def __init__(self, options: Mapping[str, bool]) -> None:
        super().__init__()
        self._options = options

    def __missing__(self, code: int) -> str:
        out = self._make(code)
        if len(self) < _MOST_CHARACTERS:
            self[code] = out
        return out

    def _make(self, code: int) -> str:
        char, options = chr(code), self._options
        category = unicodedata.category(char)
        if options["clean_text"] and char not in "\t\n\r" and (code == 0xFFFD or category[0] == "C"):
            return ""
        if category[0] == "Z" or char in "\t\n\v\f\r\x85":  # Unicode's White_Space; Python's `isspace` has four more.
            return " "
        is_cjk = options["handle_chinese_chars"] and any(first <= code <= last for first, last in _CJK)
        if options["strip_accents"]:
            char = "".join(part for part in unicodedata.normalize("NFD", char) if unicodedata.category(part) != "Mn")
        if options["lowercase"]:
            char = char.lower()
        return f" {char} " if is_cjk else "".join(f" {part} " if _is_punctuation(part) else part for part in char)


def _is_punctuation(char: str) -> bool:
    return (char.isascii() and char.isprintable() and not char.isalnum() and char != " ") or unicodedata.category(char)[0] == "P"


@dataclass(frozen=True, slots=True, eq=False)
class WordPiece:
    """Texts to ids: words, then the longest pieces that the vocabulary has of each."""

    vocabulary: Mapping[str, int] = field(repr=False)
    unknown_id: int
    prefix: str  # Of a piece that begins no word: "##".
    longest_word: int
    before: tuple[int, ...]  # Special ids around each text: [CLS], [SEP].
    after: tuple[int, ...]
    _characters: _Characters = field(repr=False)
    _longest_piece: int
    _known: dict[str, list[int]] = field(default_factory=dict, repr=False)

    def ids(self, text: str, *, max_tokens: int) -> list[int]:
        """Return the ids of a text, at most so many with the special ones; none where it has no words."""
        most = max_tokens - len(self.before) - len(self.after)
        found: list[int] = []
        for word in text.translate(self._characters).split():
            found += self._pieces_of(word)
            if len(found) >= most:
                break
        return [*self.before, *found[:most], *self.after] if found else []

    def _pieces_of(self, word: str) -> list[int]:
        pieces = self._known.get(word)
        if pieces is None:
            pieces = self._split(word)
            if len(self._known) < _MOST_WORDS:
                self._known[word] = pieces
        return pieces

    def _split(self, word: str) -> list[int]:
        """Cut a word greedily from its start. At most `longest_word` times the longest piece's characters are looked up: 0.2 ms."""
        if len(word) > self.longest_word:
            return [self.unknown_id]
        pieces, start = [], 0
        while start < len(word):
            prefix = self.prefix if start else ""
            for end in range(min(len(word), start + self._longest_piece), start, -1):
                piece = self.vocabulary.get(prefix + word[start:end])
                if piece is not None:
                    pieces.append(piece)
                    start = end
                    break
            else:
                return [self.unknown_id]
        return pieces


def read_wordpiece(described: Mapping[str, Any]) -> WordPiece:
    """Return the tokenizer that the content of a `tokenizer.json` describes.

    Raises:
        ModelLoadFailed: it is another kind of tokenizer, or not whole.
    """
    model = described.get("model")
    require(
        isinstance(model, dict) and model.get("type", "WordPiece") == "WordPiece", "tokenizer.json: only WordPiece (BERT's) is supported"
    )
    assert isinstance(model, dict)
    vocabulary = model.get("vocab")
    require(isinstance(vocabulary, dict) and 0 < len(vocabulary) <= _MOST_PIECES, "tokenizer.json: model.vocab must be ids by piece")
    assert isinstance(vocabulary, dict)
    require(all(type(value) is int and value >= 0 for value in vocabulary.values()), "tokenizer.json: model.vocab must be ids by piece")
    unknown, prefix = model.get("unk_token"), model.get("continuing_subword_prefix", "##")
    require(isinstance(unknown, str) and unknown in vocabulary, "tokenizer.json: model.unk_token must be in the vocabulary")
    require(isinstance(prefix, str), "tokenizer.json: model.continuing_subword_prefix must be a text")
    longest = model.get("max_input_chars_per_word", _LONGEST_WORD)
    require(type(longest) is int and 1 <= longest <= _LONGEST_WORD, f"tokenizer.json: words may have {_LONGEST_WORD} characters")
    splits = described.get("pre_tokenizer")
    require(isinstance(splits, dict) and splits.get("type") == "BertPreTokenizer", "tokenizer.json: only BertPreTokenizer is supported")
    before, after = _read_frame(described.get("post_processor"))
    return WordPiece(
        vocabulary=vocabulary,
        unknown_id=vocabulary[unknown],
        prefix=prefix,
        longest_word=longest,
        before=before,
        after=after,
        _characters=_Characters(_read_normalizer(described.get("normalizer"))),
        _longest_piece=max(map(len, vocabulary)),
    )


def _read_normalizer(normalizer: Any) -> dict[str, bool]:
    require(isinstance(normalizer, dict) and normalizer.get("type") == "BertNormalizer", "tokenizer.json: only BertNormalizer is supported")
    options = {name: normalizer.get(name, True) for name in ("clean_text", "handle_chinese_chars", "lowercase")}
    accents = normalizer.get("strip_accents")
    options["strip_accents"] = options["lowercase"] if accents is None else accents
    require(all(type(value) is bool for value in options.values()), "tokenizer.json: normalizer's options must be true or false")
    return options


def _read_frame(processor: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the special ids before and after a text."""
    if processor is None:
        return (), ()
    require(isinstance(processor, dict), "tokenizer.json: post_processor must be an object")
    if processor.get("type") == "BertProcessing":
        frame = [processor.get(name) for name in ("cls", "sep")]
        require(
            all(isinstance(one, list) and len(one) == 2 and type(one[1]) is int for one in frame),
            "tokenizer.json: cls and sep must name ids",
        )
        return (frame[0][1],), (frame[1][1],)
    require(processor.get("type") == "TemplateProcessing", "tokenizer.json: only TemplateProcessing and BertProcessing are supported")
    single = processor.get("single")
    require(isinstance(single, list) and all(isinstance(part, dict) and len(part) == 1 for part in single), "tokenizer.json: no template")
    places = [place for place, part in enumerate(single) if "Sequence" in part]
    require(len(places) == 1, "tokenizer.json: the template must hold the text once")
    special = processor.get("special_tokens")
    return _special_ids(single[: places[0]], special), _special_ids(single[places[0] + 1 :], special)


def _special_ids(parts: Sequence[Mapping[str, Any]], special: Any) -> tuple[int, ...]:
    found: list[int] = []
    for part in parts:
        name = (part.get("SpecialToken") or {}).get("id")
        ids = (special.get(name) or {}).get("ids") if isinstance(special, dict) else None
        require(isinstance(ids, list) and all(type(one) is int and one >= 0 for one in ids), f"tokenizer.json: {name!r} has no ids")
        assert isinstance(ids, list)
        found += ids
    return tuple(found)
