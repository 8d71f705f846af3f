"""T5's pre-training objective as data (Raffel et al. 2020, sections 3.1.4 and 3.3.4).

text      a red apple on a table
input     a <0> on a table <end>          spans left out, a sentinel for each
target    <0> red apple <end>
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cogjax.data.t5_text import END, T5Text, pad_right


@dataclass(frozen=True)
class SpanCorruption:
    """share: of a text's pieces that are left out. mean_span: pieces of a span."""

    share: float = 0.15
    mean_span: float = 3.0

    def __post_init__(self):
        if not 0 < self.share < 1:
            raise ValueError(f"share is {self.share}, expected between 0 and 1")
        if self.mean_span < 1:
            raise ValueError(f"mean_span is {self.mean_span}, expected at least 1")

    def num_spans(self, length: int) -> tuple[int, int]:
        """(pieces left out, spans) of a text of two pieces or more."""
        noise = min(max(round(length * self.share), 1), length - 1)
        # Each span needs a piece, and one that stays before it.
        spans = min(max(round(noise / self.mean_span), 1), length - noise)
        return noise, spans

    def target_len(self, text_len: int) -> int:
        """Ids of the longest target of a text of so many ids, the end among them."""
        noise, spans = self.num_spans(text_len - 1)
        return noise + min(noise, spans + 1) + 1

    def left_out(self, length: int, rng: np.random.Generator) -> np.ndarray:
        """bool [length]: spans of random lengths at random places.

        They are turned around the text, as T5's later code does: a span in two parts is
        two. Otherwise the only span of a short text would always be its end.
        """
        if length < 2:
            return np.ones(length, bool)
        noise, spans = self.num_spans(length)
        stays, goes = (_parts(n, spans, rng) for n in (length - noise, noise))
        runs = np.stack([stays, goes], axis=1).ravel()
        mask = np.repeat(np.arange(2 * spans) % 2 == 1, runs)
        return np.roll(mask, rng.integers(length))

    def example(
        self, words: T5Text, text: str, text_len: int, rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """{"ids": int32 [text_len], "targets": int32 [target_len]}, padded."""
        pieces = words.encode(text, text_len)[:-1]
        rows = corrupt(pieces, self.left_out(len(pieces), rng), words)
        lengths = {"ids": text_len, "targets": self.target_len(text_len)}
        return {
            name: pad_right([row], length)[0]
            for row, (name, length) in zip(rows, lengths.items(), strict=True)
        }


def corrupt(
    pieces: Sequence[int], left_out: np.ndarray, words: T5Text
) -> tuple[list[int], list[int]]:
    """(input, target) ids of a text; left_out: bool, of each of its pieces."""
    inputs, targets, count, inside = [], [], 0, False
    for piece, leave in zip(pieces, left_out, strict=True):
        if leave and not inside:
            inputs.append(words.sentinel(count))
            targets.append(words.sentinel(count))
            count += 1
        (targets if leave else inputs).append(piece)
        inside = leave
    return [*inputs, END], [*targets, END]


def _parts(total: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` lengths of 1 or more that add up to `total`, each choice as likely."""
    cuts = np.sort(rng.choice(total - 1, count - 1, replace=False)) + 1
    return np.diff([0, *cuts, total])
