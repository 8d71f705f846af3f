"""Token sequences that share a batch: prompts of different lengths, padded."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Prompts(NamedTuple):
    """Sequences to be continued, int32; padding is on the left.

    It is behind a text that an encoder reads (`sampling/tokens/encoder_decoder.py`).
    ids, positions: [b, t]. num_padding: [b]. next_position: [b], that of the token that
    comes next. Positions that are None are counted from each prompt's first token.
    """

    ids: np.ndarray
    num_padding: np.ndarray
    positions: np.ndarray | None = None
    next_position: np.ndarray | None = None


def left_pad(
    sequences: Sequence[Sequence[int]], length: int, pad: int
) -> tuple[np.ndarray, np.ndarray]:
    """Aligns prompts at their ends: (ids int32 [b, length], num_padding int32 [b])."""
    ids = np.full((len(sequences), length), pad, np.int32)
    for row, tokens in zip(ids, sequences, strict=True):
        row[length - len(tokens) :] = tokens
    return ids, np.array([length - len(s) for s in sequences], np.int32)


def bracketed(
    sequences: Sequence[Sequence[int]], length: int, start: int
) -> np.ndarray:
    """int32 [b, length]: `start`, a sequence, its end `start + 1`, then zeros.

    Of a sequence that is too long the first `length - 2` ids are taken.
    """
    rows = np.zeros((len(sequences), length), np.int32)
    for row, tokens in zip(rows, sequences, strict=True):
        ids = [start, *tokens[: length - 2], start + 1]
        row[: len(ids)] = ids
    return rows
