"""CLIP's text tokenizer: byte-pair merges over lower-cased words.

The merges are OpenAI's file `bpe_simple_vocab_16e6.txt.gz`, which the user brings. The
original also mends broken encodings with ftfy; here quotes are straightened and
characters composed and of full width narrowed, as ftfy does to sound text.
"""

import functools
import gzip
import html
import os
import re
import unicodedata
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cogjax.data.sequences import bracketed
from cogjax.errors import UserError

CONTEXT = 77
_NUM_MERGES = 49152 - 256 - 2
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
        merges = _read_merges(Path(path), num_merges)
        characters = list(_byte_characters().values())
        vocabulary = characters + [c + "</w>" for c in characters]
        vocabulary += ["".join(merge) for merge in merges]
        vocabulary += [_START, _END]
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
                ids += [self._ids[piece] for piece in self._pieces(word)]
        return ids

    def __call__(self, captions: Sequence[str]) -> np.ndarray:
        """int32 [n, 77]: start, ids, end, zeros; of a long caption the first 75 ids."""
        ids = [self.encode(caption) for caption in captions]
        return bracketed(ids, CONTEXT, self._ids[_START])

    def _merge(self, word: str) -> tuple[str, ...]:
        """Pieces of a word: the merge that was learnt first goes first, everywhere."""
        characters = _byte_characters()
        pieces = [characters[byte] for byte in word.encode()]
        pieces[-1] += "</w>"
        while len(pieces) > 1:
            pairs = list(zip(pieces[:-1], pieces[1:], strict=True))
            best = min(pairs, key=lambda pair: self._ranks.get(pair, len(self._ranks)))
            if best not in self._ranks:
                break
            joined = []
            i = 0
            while i < len(pieces):
                width = 2 if tuple(pieces[i : i + 2]) == best else 1
                joined.append("".join(pieces[i : i + width]))
                i += width
            pieces = joined
        return tuple(pieces)


def clean(caption: str) -> str:
    """Entities resolved (twice, as captions of the web need), spaces single, lower."""
    text = unicodedata.normalize("NFC", caption.translate(_STRAIGHT))
    text = "".join(_narrow(c) for c in text)
    text = html.unescape(html.unescape(text))
    return " ".join(text.split()).lower()


def split_words(text: str) -> list[str]:
    """Words, single digits, runs of other signs, and endings such as 's."""
    kinds = "".join(_kind(c) for c in text)
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


def _kind(character: str) -> str:
    if character.isspace():
        return " "
    category = unicodedata.category(character)[0]
    return category if category in "LN" else "O"


def _narrow(character: str) -> str:
    if unicodedata.east_asian_width(character) in "FH":
        return unicodedata.normalize("NFKC", character)
    return character


@functools.cache
def _byte_characters() -> dict[int, str]:
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
    # The first line names the version.
    merges = [tuple(line.split()) for line in text.split("\n")[1 : count + 1]]
    if len(merges) != count or any(len(merge) != 2 for merge in merges):
        raise UserError(f"{path} has no {count} merges of two: is it CLIP's file?")
    return merges
