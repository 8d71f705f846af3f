"""Byte-pair merges of characters, as Hugging Face's CharBPETokenizer: minDALL-E's.

Text is folded to lower case and cut into words and signs as BERT does; the last
character of a word is marked by "</w>", and pairs are merged in the order in which they
were learnt. A character without a piece is [UNK]. In model folders it is text.model, a
line of JSON: {"char_bpe": 1, "pieces": [...], "merges": [[left, right], ...]}.
"""

import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any

from cogjax.data.clip_bpe import merged
from cogjax.data.text import TextTokenizer
from cogjax.data.wordpiece import UNKNOWN, split_words
from cogjax.errors import UserError, shown

_HEAD = b'{"char_bpe": 1, '
_WORD_END = "</w>"
_PAD = "[PAD]"


class CharBPE(TextTokenizer):
    """Pieces and merges; picklable, equal for equal bytes."""

    UNKNOWN = UNKNOWN

    def __init__(self, serialized: bytes, name: str = "tokenizer"):
        """Reads text.model; UserError for what is damaged."""
        try:
            stored = json.loads(serialized)
            pieces, merges = list(stored["pieces"]), stored["merges"]
            "".join(pieces).encode()  # Raises for what is no text.
            ranks = {
                (str(left), str(right)): i for i, (left, right) in enumerate(merges)
            }
            ids = {piece: i for i, piece in enumerate(pieces)}
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            raise UserError(f"{name} is damaged: pieces and merges expected") from error
        if UNKNOWN not in ids or len(ids) != len(pieces):
            raise UserError(f"{name} has no {UNKNOWN}, or a piece twice")
        lost = next((x for x in ranks if "".join(x) not in ids), None)
        if lost:
            raise UserError(
                f"{name} merges to {shown(''.join(lost))}, which is no piece"
            )
        self.serialized = serialized
        self._pieces_of_ids, self._ids, self._ranks = pieces, ids, ranks
        self._cut = functools.lru_cache(maxsize=1 << 16)(self._merge)

    @classmethod
    def of(
        cls, vocab: Mapping[str, Any], merges: Sequence[Sequence[str]], name: str
    ) -> "CharBPE":
        """That of {piece: id} and merges in their order, called `name` in errors."""
        pieces = sorted(vocab, key=lambda piece: _whole(vocab[piece]))
        if [vocab[piece] for piece in pieces] != list(range(len(pieces))):
            raise UserError(f"{name} has ids that are not 0 to {len(pieces) - 1}")
        body = json.dumps({"pieces": pieces, "merges": [list(x) for x in merges]})
        return cls(_HEAD + body.encode()[1:], name)

    @property
    def size(self) -> int:
        """Number of pieces."""
        return len(self._pieces_of_ids)

    @property
    def pad(self) -> int:
        """Id of padding, behind the pieces unless it is one of them."""
        return self._ids.get(_PAD, self.size)

    def encode(self, text: str) -> list[int]:
        """Returns the ids of `text`; of the control pieces only that of [UNK]."""
        text = text.encode("utf-8", "replace").decode("utf-8").lower()
        return [i for word in split_words(text, False) for i in self._cut(word)]

    def _text(self, ids: list[int]) -> str:
        """Returns the text of `ids`, a space behind each word."""
        text = "".join(self._pieces_of_ids[i] for i in ids)
        return text.replace(_WORD_END, " ").strip()

    def merges(self) -> None:
        """None: pieces are not told apart from the ends of words here."""

    def _merge(self, word: str) -> tuple[int, ...]:
        pieces = [*word[:-1], word[-1] + _WORD_END]
        known = [piece if piece in self._ids else UNKNOWN for piece in pieces]
        return tuple(self._ids[piece] for piece in merged(known, self._ranks))


def is_char_bpe(data: bytes) -> bool:
    """Whether a file starts as text.model of these does."""
    return data.startswith(_HEAD)


def _whole(value: Any) -> int:
    return value if type(value) is int else -1
