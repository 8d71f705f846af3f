"""Byte-level BPE, the text tokenizer of GPT-2, RoBERTa, BART and DALL-E mini.

Words keep the space in front of them, and bytes are written as visible characters; the
merge that was learnt first goes first. A file of ours is JSON:

    {"kind": "byte-level BPE", "vocab": [piece, ...], "merges": ["left right", ...],
     "style": "plain", "words": [word, ...]}

Styles of reading a text: `plain` as it is; `normalized` as DALL-E mini's captions were
(`data/caption_text.py`), where `words` cut hashtags; `words` as min-dalle does, lower
case, ASCII alone, every word with a space in front and never cut at a sign.
"""

import functools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cogjax.data.caption_text import normalized, spelled
from cogjax.data.clip_bpe import byte_characters, kind_of_character, merged
from cogjax.data.text import TextTokenizer, clean
from cogjax.errors import UserError, shown

STYLES = ("plain", "normalized", "words")
BEGIN, PAD, END, UNKNOWN = "<s>", "<pad>", "</s>", "<unk>"
_KIND = "byte-level BPE"
_HEAD = f'{{"kind": "{_KIND}"'.encode()
_ENDINGS = re.compile("'(?:[stmd]|re|ve|ll)")
# Kinds of characters: L letters, N digits, O signs, S spaces, W other spaces.
_WORDS = re.compile("S?L+|S?N+|S?O+|[SW]+(?![LNO])|[SW]+")
_SPACE = "Ġ"


class ByteBPE(TextTokenizer):
    """A vocabulary and its merges; picklable, equal for equal bytes."""

    def __init__(self, serialized: bytes, name: str = "tokenizer"):
        """Reads what `pack` gives; UserError for anything else."""
        stored = _parsed(serialized, name)
        self.serialized = serialized
        self._vocab = stored["vocab"]
        self.style = stored["style"]
        self._words = tuple(stored["words"])
        self._ids = {piece: i for i, piece in enumerate(self._vocab)}
        merges = (tuple(merge.split(" ")) for merge in stored["merges"])
        self._ranks = {merge: rank for rank, merge in enumerate(merges)}
        self._pieces = functools.lru_cache(maxsize=1 << 16)(self._merge)
        self._special = frozenset(self._ids.get(x, -1) for x in (BEGIN, PAD, END))

    @property
    def size(self) -> int:
        """Number of pieces; ids are in [0, size)."""
        return len(self._vocab)

    @property
    def special(self) -> dict[str, int]:
        """Ids of `<s>`, `<pad>` and `</s>`, of those that are there."""
        return {x: self._ids[x] for x in (BEGIN, PAD, END) if x in self._ids}

    @property
    def cuts_hashtags(self) -> bool:
        """Whether there is a list of words for that."""
        return bool(self._words)

    def encode(self, text: str) -> list[int]:
        """Returns the ids of `text`, never those of `<s>`, `<pad>` and `</s>`."""
        text = text.encode("utf-8", "replace").decode()
        return [i for word in self._split(text) for i in self._ids_of(word)]

    def _text(self, ids: list[int]) -> str:
        """Returns the text of `ids`, without a space in front."""
        bytes_of = {c: byte for byte, c in byte_characters().items()}
        text = "".join(self._vocab[i] for i in ids if i not in self._special)
        data = bytes(bytes_of[c] for c in text if c in bytes_of)
        return data.decode("utf-8", "replace").removeprefix(" ")

    def merges(self) -> None:
        """None: pieces are not told apart from the spaces in front of words here."""

    def _split(self, text: str) -> Iterable[str]:
        """Words of visible characters, the space in front of each with them."""
        if self.style == "words":
            text = spelled(text, "").lower().encode("ascii", "ignore").decode()
            return [_SPACE + word for word in clean(text).split()]
        text = normalized(text, self._words) if self.style == "normalized" else text
        table = byte_characters()
        return ["".join(table[b] for b in x.encode()) for x in split_words(text)]

    def _ids_of(self, word: str) -> list[int]:
        unknown = self._ids.get(UNKNOWN)
        found = (self._ids.get(piece, unknown) for piece in self._pieces(word))
        return [i for i in found if i is not None]

    def _merge(self, word: str) -> tuple[str, ...]:
        return merged(list(word), self._ranks)


def pack(
    vocab: Mapping[str, int],
    merges: Sequence[Any],
    style: str,
    words: Sequence[str] = (),
) -> bytes:
    """The file of a vocabulary {piece: id} and merges, "left right" or pairs of them.

    Raises ValueError for ids that are not 0 .. n - 1, and for what is no merge.
    """
    pieces = sorted(vocab, key=lambda piece: vocab[piece])
    if [vocab[piece] for piece in pieces] != list(range(len(pieces))):
        raise ValueError("its ids are not 0, 1, 2 ...")
    lines = [x if isinstance(x, str) else " ".join(x) for x in merges]
    stored = {
        "kind": _KIND,
        "vocab": pieces,
        "merges": lines,
        "style": style,
        "words": list(words),
    }
    return json.dumps(stored, ensure_ascii=False).encode()


def is_byte_bpe(serialized: bytes) -> bool:
    """Whether a file starts as those of `pack` do."""
    return serialized.startswith(_HEAD)


def split_words(text: str) -> list[str]:
    """Words, digits and signs, each with a space in front of it, and endings like 's.

    GPT-2's pattern: of several spaces the last one goes with the word.
    """
    kinds = "".join(_kind(c) for c in text)
    words, place = [], 0
    while place < len(text):
        match = _ENDINGS.match(text, place) or _WORDS.match(kinds, place)
        words.append(text[place : match.end()])
        place = match.end()
    return words


def _kind(character: str) -> str:
    if character == " ":
        return "S"
    return kind_of_character(character).replace(" ", "W")


def _parsed(serialized: bytes, name: str) -> dict[str, Any]:
    """The contents of a file; UserError if it is not one of `pack`."""
    try:
        stored = json.loads(serialized)
        lists = [stored[key] for key in ("vocab", "merges", "words")]
        is_whole = stored["kind"] == _KIND and stored["style"] in STYLES
        texts = all(isinstance(x, list) for x in lists)
        texts = texts and all(isinstance(x, str) for each in lists for x in each)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{name} is no file of byte-level BPE: {error}") from error
    vocab, merges, _ = lists
    if not (is_whole and texts and vocab and len(set(vocab)) == len(vocab)):
        raise UserError(f"{name} is no whole file of byte-level BPE")
    if odd := [merge for merge in merges if len(merge.split(" ")) != 2]:
        raise UserError(
            f"{name} has the merge {shown(odd[0])}, two pieces are expected"
        )
    return stored
