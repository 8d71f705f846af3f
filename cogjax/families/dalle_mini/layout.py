"""Texts of DALL-E mini, which its encoder reads, and the codes of its decoder.

    <s> piece ... piece </s> <pad> ... <pad>     | code ... code

Texts and codes have tables of their own. A text that is too long keeps its </s>; no
text at all, which guidance compares with, is <s> </s>.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cogjax.data.sequences import Prompts


@dataclass(frozen=True)
class PairVocab:
    """The ids of texts and those of codes, both from 0.

    num_codes: ids that an image may have. padded_size: rows of the table of codes.
    num_text: pieces of the text tokenizer. begin, end, pad: ids around a text.
    """

    num_codes: int
    padded_size: int
    num_text: int
    begin: int = 0
    end: int = 2
    pad: int = 1


@dataclass(frozen=True)
class Layout:
    """What the two halves read. positions: ids of a text. image_len: codes an image."""

    vocab: PairVocab
    positions: int
    image_len: int

    @property
    def text_len(self) -> int:
        """Longest text in pieces, longer text is cut."""
        return self.positions - 2

    def prompts(self, texts: Sequence[Sequence[int]]) -> Prompts:
        """Each text between its begin and end; the padding is behind it."""
        vocab = self.vocab
        ids = np.full((len(texts), self.positions), vocab.pad, np.int32)
        num_padding = np.zeros(len(texts), np.int32)
        for i, text in enumerate(texts):
            row = [vocab.begin, *text[: self.text_len], vocab.end]
            ids[i, : len(row)] = row
            num_padding[i] = self.positions - len(row)
        return Prompts(ids, num_padding)
