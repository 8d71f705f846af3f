"""BPE-dropout: a text is cut into other pieces each time that it is read.

Provilkov et al. 2020 (arXiv 1910.13267), algorithm 1, as DALL-E trains with 10 %: the
pairs of a word are merged in their usual order, but before each merge every possible
one is left out with some probability. SentencePiece's own sampling draws from a
generator that it shares; here the draw is a function of the example's.
"""

from collections.abc import Sequence

import numpy as np

from cogjax.data.text import TextTokenizer
from cogjax.errors import UserError

_SPACE = "\u2581"  # how SentencePiece writes the start of a word


class BPEDropout:
    """Piece ids of a text -> ids of the same text, its pieces shorter by chance."""

    def __init__(self, text: TextTokenizer, rate: float):
        """rate: in [0, 1], of leaving a merge out; 1 spells all characters.

        UserError for a tokenizer that does not merge pairs.
        """
        pieces = text.merges()
        if pieces is None:
            raise UserError(
                "BPE-dropout needs a text tokenizer that merges pairs, as `cogjax "
                "tokenizer train` makes them: choose one, or set bpe_dropout to 0"
            )
        self._rate = rate
        self._apart = text.apart
        self._ids = {x: i for i, x in enumerate(pieces) if i not in self._apart}
        # The characters of a piece; one with a character that is no piece stays.
        self._spelled = [
            piece if set(piece) <= self._ids.keys() else (piece,) for piece in pieces
        ]

    def __call__(self, ids: Sequence[int], rng: np.random.Generator) -> list[int]:
        """Cuts each word anew; bytes, controls and the unknown stay and divide it."""
        found, word = [], []
        for i in ids:
            spelled = self._spelled[i]
            if i in self._apart or spelled[0].startswith(_SPACE):
                found += self._cut(word, rng)
                word = []
            if i in self._apart:
                found.append(i)
            else:
                word += spelled
        return found + self._cut(word, rng)

    def _cut(self, word: list[str], rng: np.random.Generator) -> list[int]:
        while len(word) > 1:
            merged = [word[i] + word[i + 1] for i in range(len(word) - 1)]
            # A piece's id is its place among the merges, and a place among equals.
            known = [(self._ids[m], i) for i, m in enumerate(merged) if m in self._ids]
            left = rng.random(len(known)) >= self._rate
            known = [pair for pair, stays in zip(known, left, strict=True) if stays]
            if not known:
                break
            at = min(known)[1]
            word = [*word[:at], merged[at], *word[at + 2 :]]
        return [self._ids[piece] for piece in word]
