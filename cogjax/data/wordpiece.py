"""WordPiece, the text tokenizer of ERNIE-ViLG's paper, beside `data/text.py`'s BPE.

A word is cut into the longest pieces of a vocabulary, from its start on; those within a
word begin with "##" (BERT, Devlin et al. 2019). Chinese characters and punctuation are
words of their own. A word that cannot be cut is [UNK]. A file is BERT's vocab.txt, a
piece a line. Where folding changes no piece, the vocabulary is of folded text, and text
is then folded as BERT does: lower case, without accents.

Training joins the pair that raises the likelihood of the texts the most, every piece
having its share of all pieces as probability (Schuster and Nakajima 2012).
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from cogjax.data.text import TextTokenizer, clean
from cogjax.errors import UserError

UNKNOWN = "[UNK]"
_CONTROL = re.compile(r"\[[A-Za-z0-9]+\]")
_LONGEST_WORD = 100
_HANZI = re.compile("([\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002fa1f])")


class WordPieceTokenizer(TextTokenizer):
    """A vocabulary of WordPiece; picklable, equal for equal bytes."""

    def __init__(self, serialized: bytes, name: str = "tokenizer"):
        """Reads a vocab.txt; UserError for one that is none: `_read_pieces`."""
        self.serialized = serialized
        self._vocab = _read_pieces(serialized, name)
        self._ids = {piece: i for i, piece in enumerate(self._vocab)}
        texts = (piece for piece in self._vocab if not _CONTROL.fullmatch(piece))
        self._folds = all(_fold(piece) == piece for piece in texts)

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        vocab_size: int,
        *,
        character_coverage: float = 0.9995,
        lower_case: bool = False,
    ) -> "WordPieceTokenizer":
        """As of `TextTokenizer`; one piece stands for the unknown, none for bytes."""
        words = Counter(
            word for text in texts for word in split_words(text, lower_case)
        )
        if not words:
            raise UserError("there is no text to train a tokenizer on")
        alphabet = _alphabet(words, character_coverage)
        cuts = {
            word: [word[0], *(f"##{c}" for c in word[1:])]
            for word in sorted(words)
            if set(word) <= alphabet
        }
        pieces = sorted({piece for cut in cuts.values() for piece in cut})
        missing = vocab_size - len(pieces) - 1
        if missing < 0:
            raise UserError(
                f"vocab_size {vocab_size} is too small for the characters of this text:"
                f" the smallest possible is {len(pieces) + 1}"
            )
        joins = _Joins(cuts, words)
        while missing > 0 and (pair := joins.best()):
            pieces.append(joins.join(pair))
            missing -= 1
        if len(pieces) + 1 < vocab_size:
            raise UserError(
                f"vocab_size {vocab_size} is too large for this text: the largest "
                f"possible is {len(pieces) + 1}"
            )
        return cls("\n".join([UNKNOWN, *pieces, ""]).encode())

    @property
    def size(self) -> int:
        """Number of pieces; ids are in [0, size)."""
        return len(self._vocab)

    def encode(self, text: str) -> list[int]:
        """Returns the ids of `text`; of the control pieces only that of [UNK]."""
        words = split_words(text, self._folds)
        return [self._ids[piece] for word in words for piece in self._cut(word)]

    def _text(self, ids: list[int]) -> str:
        """Returns the text of `ids`, a space between words that are not Chinese."""
        text = ""
        for piece in (self._vocab[i] for i in ids):
            inner = piece.startswith("##")
            apart = not (inner or _HANZI.match(piece) or _HANZI.match(text[-1:]))
            text += (" " if text and apart else "") + piece[2 * inner :]
        return text

    def places(self, pieces: Sequence[str]) -> dict[str, int]:
        """Ids of those of the pieces that are in the vocabulary, controls too."""
        return {piece: self._ids[piece] for piece in pieces if piece in self._ids}

    def pieces_in(self, language: str | None) -> list[bool]:
        """As of `TextTokenizer`; control pieces and [UNK] stand in no text."""
        texts = (not _CONTROL.fullmatch(piece) for piece in self._vocab)
        found = super().pieces_in(language)
        return [is_text and fits for is_text, fits in zip(texts, found, strict=True)]

    def merges(self) -> None:
        """None: the longest piece is taken, whatever it was merged from."""

    def _cut(self, word: str) -> tuple[str, ...]:
        """The longest piece, then the longest of the rest."""
        pieces, at = [], 0
        while at < len(word) <= _LONGEST_WORD:
            start = "##" if at else ""
            ends = range(len(word), at, -1)
            found = next((e for e in ends if start + word[at:e] in self._ids), None)
            if found is None:
                return (UNKNOWN,)
            pieces.append(start + word[at:found])
            at = found
        return tuple(pieces) or (UNKNOWN,)


def split_words(text: str, lower_case: bool) -> list[str]:
    """Words, single Chinese characters and single signs (BERT's basic tokenizer)."""
    text = _HANZI.sub(r" \1 ", clean(text))
    if lower_case:
        text = _fold(text)
    text = "".join(f" {c} " if _is_sign(c) else c for c in text)
    text = "".join(c for c in text if unicodedata.category(c)[0] != "C")
    return text.split()


def _read_pieces(serialized: bytes, name: str) -> list[str]:
    """The lines of a vocab.txt, whose numbers are the ids.

    UserError if it is not UTF-8, has no [UNK], an empty line inside or a piece twice.
    """
    try:
        text = serialized.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{name} is not UTF-8 text") from error
    pieces = [line.rstrip("\r") for line in text.split("\n")]
    if "" in pieces:
        raise UserError(
            f"{name} is no vocabulary: line {pieces.index('') + 1} is empty, "
            "expected a piece a line"
        )
    if UNKNOWN not in pieces or len(set(pieces)) < len(pieces):
        raise UserError(f"{name} is no vocabulary: no {UNKNOWN}, or a piece twice")
    return pieces


def _fold(text: str) -> str:
    """Lower case without accents; Hangul as its letters."""
    text = unicodedata.normalize("NFD", text.lower())
    return "".join(c for c in text if unicodedata.category(c) != "Mn")


def _is_sign(character: str) -> bool:
    """Punctuation, and what ASCII has beside letters, digits and space."""
    ascii_sign = 32 < ord(character) < 127 and not character.isalnum()
    return ascii_sign or unicodedata.category(character)[0] == "P"


def _alphabet(words: Counter, coverage: float) -> set[str]:
    """The most frequent characters that make up such a share of the text."""
    counts: Counter[str] = Counter()
    for word, count in words.items():
        for character in word:
            counts[character] += count
    ranked = sorted(counts, key=lambda c: (-counts[c], c))
    before = np.cumsum([0, *(counts[c] for c in ranked)])[:-1]
    needed = coverage * sum(counts.values())
    return {c for c, seen in zip(ranked, before, strict=True) if seen < needed}


class _Joins:
    """Words as pieces, with counts of pieces and of pairs that follow each change."""

    def __init__(self, cuts: dict[str, list[str]], counts: Counter):
        self._cuts, self._counts = cuts, counts
        self._singles: Counter[str] = Counter()
        self._pairs: Counter[tuple[str, str]] = Counter()
        # Keys are kept in order, as a set's are not: equal gains must tie alike.
        self._words: dict[tuple[str, str], dict[str, None]] = {}
        for word in cuts:
            self._count(word, 1)

    def _count(self, word: str, sign: int) -> None:
        cut, count = self._cuts[word], sign * self._counts[word]
        for piece in cut:
            self._singles[piece] += count
        for pair in _pairs_of(cut):
            self._pairs[pair] += count
            self._words.setdefault(pair, {})[word] = None

    def best(self) -> tuple[str, str] | None:
        """The pair that raises the log-likelihood the most; None if none is twice."""
        often = [pair for pair, count in self._pairs.items() if count > 1]
        if not often:
            return None
        first, second = (
            np.array([self._singles[pair[i]] for pair in often], float) for i in (0, 1)
        )
        both = np.array([self._pairs[pair] for pair in often], float)
        same = np.array([pair[0] == pair[1] for pair in often])
        total = sum(self._singles.values())
        return often[int(np.argmax(_gain(first, second, both, same, total)))]

    def join(self, pair: tuple[str, str]) -> str:
        """Makes one piece of the pair wherever it occurs, and returns it."""
        piece = pair[0] + pair[1].removeprefix("##")
        for word in self._words.pop(pair):
            self._count(word, -1)
            cut, at = self._cuts[word], 0
            while at < len(cut) - 1:
                if (cut[at], cut[at + 1]) == pair:
                    cut[at : at + 2] = [piece]
                at += 1
            self._count(word, 1)
        return piece


def _pairs_of(cut: list[str]) -> Iterator[tuple[str, str]]:
    """Neighbours, each pair as often as it can be joined: once in "##a ##a ##a"."""
    last, taken = None, False
    for pair in zip(cut, cut[1:], strict=False):
        taken = pair == last and not taken
        if not taken:
            yield pair
        last = pair


def _gain(first, second, both, same, total: int):
    """Gain of joining `both` pairs, in nats: pieces of n among N have n ln(n / N).

    same: whether the two pieces of a pair are the same one, which is then used twice.
    """

    def f(x):
        return x * np.log(np.maximum(x, 1))

    parts = f(first - both * (1 + same)) - f(first) + f(both)
    parts += np.where(same, 0, f(second - both) - f(second))
    return parts + f(np.float64(total)) - f(total - both)
