"""Texts as T5 reads them: padding 0, the end 1, the unknown piece 2, then the pieces.

T5's own spiece.model has these ids. Tokenizers trained here have no control pieces and
the unknown at 0: their ids are moved by 2. Sentinels, which stand for what is left out,
come behind the pieces, the first of them last.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cogjax.data.text import TextTokenizer
from cogjax.data.wordpiece import WordPieceTokenizer
from cogjax.errors import UserError

PAD, END = 0, 1
NUM_SENTINELS = 100
# What `TextTokenizer.controls` may be, and how far its ids are moved.
_SHIFTS = {(0, 1, 2): 0, (-1, -1, 0): 2}


@dataclass(frozen=True)
class T5Text:
    """Ids of a text tokenizer's texts; UserError for one of neither form."""

    tokenizer: TextTokenizer

    def __post_init__(self):
        if isinstance(self.tokenizer, WordPieceTokenizer):
            raise UserError(
                "the text tokenizer is a WordPiece, and a T5 reads SentencePiece: "
                "choose one of `cogjax tokenizer train --kind bpe`"
            )
        if self.tokenizer.controls not in _SHIFTS:
            raise UserError(
                f"the text tokenizer has padding, end and unknown at "
                f"{self.tokenizer.controls}: T5's has them at (0, 1, 2), and one of "
                "`cogjax tokenizer train` has the unknown alone, at 0"
            )

    @property
    def vocab_size(self) -> int:
        """Rows of a table for all ids, a multiple of 128: 32,128 for T5's pieces."""
        return -(-(self._num_pieces + NUM_SENTINELS) // 128) * 128

    @property
    def _shift(self) -> int:
        return _SHIFTS[self.tokenizer.controls]

    @property
    def _num_pieces(self) -> int:
        return self.tokenizer.size + self._shift

    def encode(self, text: str, length: int) -> list[int]:
        """At most `length` ids, the last of them the end; what is longer is cut."""
        return self.ended(self.tokenizer.encode(text), length)

    def ended(self, pieces: Sequence[int], length: int) -> list[int]:
        """`encode` of the tokenizer's own ids of a text."""
        return [piece + self._shift for piece in pieces[: length - 1]] + [END]

    def num_ids(self, text: str) -> int:
        """Ids of all of a text, the end among them."""
        return len(self.tokenizer.encode(text)) + 1

    def unread(self, text: str, length: int) -> str:
        """What `encode` cuts off a text, as its pieces spell it; "" for nothing."""
        return self.tokenizer.decode(self.tokenizer.encode(text)[length - 1 :])

    def unknown(self, text: str) -> str:
        """Why a text cannot be read: "", as pieces spell any bytes."""
        del text
        return ""

    def sentinel(self, number: int) -> int:
        """Id of <extra_id_number>, number below 100."""
        return self._num_pieces + NUM_SENTINELS - 1 - number


def pad_right(rows: Sequence[Sequence[int]], length: int) -> np.ndarray:
    """int32 [b, length], padded behind."""
    ids = np.full((len(rows), length), PAD, np.int32)
    for row, tokens in zip(ids, rows, strict=True):
        row[: len(tokens)] = tokens
    return ids
