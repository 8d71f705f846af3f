"""Sequences of minDALL-E: text, filled up by [PAD], which is seen, and an image.

    piece ... piece [PAD] ... [PAD] | code ... code

Text and codes have positions of their own: those of codes follow those of text.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cogjax.config import check_ranges
from cogjax.data.sequences import Prompts


@dataclass(frozen=True)
class Vocab:
    """Ids: codes 0.., then the rows of the text's table.

    num_text: pieces of the text tokenizer. pad: row of [PAD]. num_rows: of the table.
    """

    num_codes: int
    num_text: int
    pad: int
    num_rows: int

    @property
    def padded_size(self) -> int:
        """Rows of the token table."""
        return self.num_codes + self.num_rows


@dataclass(frozen=True)
class Layout:
    """text_len: positions of the text; longer text is cut. image_len: codes."""

    vocab: Vocab
    text_len: int
    image_len: int

    def __post_init__(self):
        check_ranges(self, text_len=(1, 2**16), image_len=(1, 2**20))

    def prompts(self, texts: Sequence[Sequence[int]]) -> Prompts:
        """Each text and its padding, nothing of it hidden."""
        shape = len(texts), self.text_len
        ids = np.full(shape, self.vocab.num_codes + self.vocab.pad, np.int32)
        for row, text in zip(ids, texts, strict=True):
            text = np.asarray(text[: self.text_len], np.int32)
            row[: len(text)] = self.vocab.num_codes + text
        places = np.broadcast_to(np.arange(self.text_len, dtype=np.int32), shape)
        next_position = np.full(len(ids), self.text_len, np.int32)
        return Prompts(ids, np.zeros(len(ids), np.int32), places, next_position)
