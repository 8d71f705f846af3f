"""Sequences of ru-dalle: text, filled up by ids of their own, and an image.

    v3           start piece ... end pad_k ... pad_127 | code ... code
    v2     start start piece ... end pad_k ... pad_127 | code ... code

In v2 (`shifted`) all text stands a place later: its last token is in the first place of
the image for masks, though not for positions.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cogjax.config import check_ranges
from cogjax.data.sequences import Prompts


@dataclass(frozen=True)
class Vocab:
    """Ids: codes 0.., then the rows of the text's table, paddings last.

    num_text: ids of the text tokenizer. num_rows: of the table. start, end: of a text.
    """

    num_codes: int
    num_text: int
    num_rows: int
    start: int = 2
    end: int = 3

    @property
    def padded_size(self) -> int:
        """Rows of the token table."""
        return self.num_codes + self.num_rows


@dataclass(frozen=True)
class Layout:
    """full_len: positions of the text with start and end. image_len: codes."""

    vocab: Vocab
    full_len: int
    image_len: int
    shifted: bool

    def __post_init__(self):
        check_ranges(self, full_len=(3, 2**16), image_len=(1, 2**20))

    @property
    def text_len(self) -> int:
        """Pieces that are read; a text of one less has its end."""
        return self.full_len - 1

    def prompts(self, texts: Sequence[Sequence[int]]) -> Prompts:
        """Each text between start and end, and its padding; nothing is hidden."""
        vocab = self.vocab
        padding = vocab.num_rows - self.full_len + np.arange(self.full_len)
        rows = np.tile(padding.astype(np.int32), (len(texts), 1))
        for row, text in zip(rows, texts, strict=True):
            ids = [vocab.start, *text, vocab.end][: self.full_len]
            row[: len(ids)] = ids
        if self.shifted:
            rows = np.pad(rows, ((0, 0), (1, 0)), constant_values=vocab.start)
        places = np.arange(rows.shape[1], dtype=np.int32)
        # The table of positions has one more than v3 uses.
        next_position = np.full(len(rows), self.full_len + 1, np.int32)
        return Prompts(
            vocab.num_codes + rows,
            np.zeros(len(rows), np.int32),
            np.broadcast_to(places, rows.shape),
            next_position,
        )
