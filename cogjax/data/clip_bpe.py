"""CLIP's text tokenizer: byte-pair merges over lower-cased words.

The merges are OpenAI's file `bpe_simple_vocab_16e6.txt.gz`, which the user brings, or
`merges.txt` of Hugging Face; in model folders they are text.model. The original also
mends broken encodings with ftfy; here quotes are straightened and characters composed
and of full width narrowed, as ftfy does to sound text.
"""

import functools
import gzip
import html
import io
import os
import re
import unicodedata
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from cogjax.data.sequences import bracketed
from cogjax.data.text import TextTokenizer
from cogjax.errors import UserError

CONTEXT = 77
_NUM_MERGES = 49152 - 256 - 2
# First lines: that of Hugging Face, whose merges we write, and that of OpenAI.
_HEADS = ("#version: 0.2", "bpe_simple_vocab_16e6.txt#version: 0.2")
_WORD_END = "</w>"
_START, _END = "<|startoftext|>", "<|endoftext|>"
# Matched against one letter for the kind of each character: words, digits, the rest.
_KINDS = re.compile("L+|N|O+")
_FIXED = re.compile(re.escape(_START) + "|" + re.escape(_END) + "|'(?:[stmd]|re|ve|ll)")
_STRAIGHT = str.maketrans("\u2018\u2019\u201c\u201d", "''\"\"")
# The file unpacks to 3.2 MB; a decompression bomb would unpack to more.
_MAX_BYTES = 1 << 24


class ClipTokenizer:
    """Captions -> ids of 49,408 pieces, by the merges in a file.

    Raises UserError if the file cannot be read or has too few merges.
    """

    def __init__(self, path: str | os.PathLike, num_merges: int = _NUM_MERGES):
        self._use(_read_merges(Path(path), num_merges))

    @classmethod
    def of(cls, merges: Sequence[tuple[str, str]]) -> "ClipTokenizer":
        """That of merges in their order."""
        tokenizer = cls.__new__(cls)
        tokenizer._use(merges)
        return tokenizer

    def _use(self, merges: Sequence[tuple[str, str]]) -> None:
        characters = list(byte_characters().values())
        vocabulary = characters + [c + _WORD_END for c in characters]
        vocabulary += ["".join(merge) for merge in merges]
        vocabulary += [_START, _END]
        self.vocabulary = vocabulary
        self._ids = {piece: i for i, piece in enumerate(vocabulary)}
        self._ranks = {merge: rank for rank, merge in enumerate(merges)}
        self._pieces = functools.lru_cache(maxsize=1 << 16)(self._merge)
        self.vocab_size = len(vocabulary)

    def encode(self, caption: str) -> list[int]:
        """Ids without start and end."""
        ids: list[int] = []
        for word in split_words(clean(caption)):
            if word in (_START, _END):
                ids.append(self._ids[word])
            else:
                ids += self.ids_of(word)
        return ids

    def ids_of(self, word: str) -> list[int]:
        """Ids of a word's pieces."""
        return [self._ids[piece] for piece in self._pieces(word)]

    def __call__(self, captions: Sequence[str]) -> np.ndarray:
        """int32 [n, 77]: start, ids, end, zeros; of a long caption the first 75 ids."""
        ids = [self.encode(caption) for caption in captions]
        return bracketed(ids, CONTEXT, self._ids[_START])

    def _merge(self, word: str) -> tuple[str, ...]:
        """Pieces of a word, the last of which ends it."""
        characters = byte_characters()
        pieces = [characters[byte] for byte in word.encode()]
        pieces[-1] += _WORD_END
        return merged(pieces, self._ranks)


class ClipText(TextTokenizer):
    """CLIP's merges as the text tokenizer of a model; picklable, equal for equal bytes.

    Start and end of a text are no pieces: they have the two ids behind the last piece.
    """

    def __init__(self, serialized: bytes, name: str = "tokenizer"):
        """Reads merges.txt, or the same packed by gzip; UserError for what is none."""
        text = _unpacked(serialized, name)
        # The last lines of OpenAI's file are used by other vocabularies.
        merges = _pairs(text.rstrip(), _NUM_MERGES)
        # OpenAI's has a quotation mark in front.
        is_ours = text.removeprefix('"').startswith(_HEADS)
        if not is_ours or any(len(merge) != 2 for merge in merges):
            raise UserError(f"{name} has no merges of CLIP: two pieces a line")
        lines = [_HEADS[0], *(" ".join(merge) for merge in merges), ""]
        self.serialized = "\n".join(lines).encode()
        self._bpe = ClipTokenizer.of(merges)

    @property
    def size(self) -> int:
        """Number of pieces, without start and end."""
        return self._bpe.vocab_size - 2

    @property
    def vocabulary(self) -> list[str]:
        """All pieces by id, start and end last."""
        return self._bpe.vocabulary

    def encode(self, text: str) -> list[int]:
        """Returns the ids of `text`, never those of start and end."""
        words = split_words(clean(text.encode("utf-8", "replace").decode()))
        return [i for word in words for i in self._bpe.ids_of(word)]

    def _text(self, ids: list[int]) -> str:
        """Returns the text of `ids`, a space behind each word."""
        bytes_of = {c: byte for byte, c in byte_characters().items()}
        text = "".join(self.vocabulary[i] for i in ids)
        words = text.removesuffix(_WORD_END).split(_WORD_END)
        data = b" ".join(bytes(bytes_of[c] for c in word) for word in words)
        return data.decode("utf-8", "replace")

    def merges(self) -> None:
        """None: pieces are not told apart from the ends of words here."""


def merged(
    pieces: Sequence[str], ranks: Mapping[tuple[str, str], int]
) -> tuple[str, ...]:
    """Pieces of a word: the merge that was learnt first goes first, everywhere."""
    while len(pieces) > 1:
        pairs = list(zip(pieces[:-1], pieces[1:], strict=True))
        best = min(pairs, key=lambda pair: ranks.get(pair, len(ranks)))
        if best not in ranks:
            break
        joined = []
        i = 0
        while i < len(pieces):
            width = 2 if tuple(pieces[i : i + 2]) == best else 1
            joined.append("".join(pieces[i : i + width]))
            i += width
        pieces = joined
    return tuple(pieces)


def is_merges(data: bytes) -> bool:
    """Whether a file starts as merges do, packed by gzip or not."""
    return data.startswith((b"\x1f\x8b", *(head.encode() for head in _HEADS)))


def _pairs(text: str, most: int) -> list[tuple[str, ...]]:
    """The words of each line behind the first, which names the version."""
    return [tuple(line.split()) for line in text.split("\n")[1 : most + 1]]


def _unpacked(serialized: bytes, name: str) -> str:
    try:
        if serialized.startswith(b"\x1f\x8b"):
            with gzip.open(io.BytesIO(serialized)) as file:
                serialized = file.read(_MAX_BYTES)
        return serialized.decode()
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise UserError(f"{name} is damaged: merges of CLIP are expected") from error


def clean(caption: str) -> str:
    """Entities resolved (twice, as captions of the web need), spaces single, lower."""
    text = unicodedata.normalize("NFC", caption.translate(_STRAIGHT))
    text = "".join(_narrow(c) for c in text)
    text = html.unescape(html.unescape(text))
    return " ".join(text.split()).lower()


def split_words(text: str) -> list[str]:
    """Words, single digits, runs of other signs, and endings such as 's."""
    kinds = "".join(kind_of_character(c) for c in text)
    words = []
    place = 0
    while place < len(text):
        match = _FIXED.match(text, place) or _KINDS.match(kinds, place)
        if match is None:
            place += 1
            continue
        words.append(text[place : match.end()])
        place = match.end()
    return words


def kind_of_character(character: str) -> str:
    """A space, L for a letter, N for a digit, O for any other."""
    if character.isspace():
        return " "
    category = unicodedata.category(character)[0]
    return category if category in "LN" else "O"


def _narrow(character: str) -> str:
    if unicodedata.east_asian_width(character) in "FH":
        return unicodedata.normalize("NFKC", character)
    return character


@functools.cache
def byte_characters() -> dict[int, str]:
    """A visible character for each byte; those that have none take later ones."""
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in visible]
    table = {byte: chr(byte) for byte in visible}
    return table | {byte: chr(256 + i) for i, byte in enumerate(hidden)}


def _read_merges(path: Path, count: int) -> list[tuple[str, str]]:
    try:
        with gzip.open(path) as file:
            text = file.read(_MAX_BYTES).decode()
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise UserError(
            f"cannot read {path}: CLIP's bpe_simple_vocab_16e6.txt.gz is expected "
            f"({error})"
        ) from error
    merges = _pairs(text, count)
    if len(merges) != count or any(len(merge) != 2 for merge in merges):
        raise UserError(f"{path} has no {count} merges of two: is it CLIP's file?")
    return merges
