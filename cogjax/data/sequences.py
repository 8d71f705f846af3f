"""Token sequences that share a batch: prompts of different lengths, padded."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Prompts(NamedTuple):
    """Sequences to be continued, int32; padding is on the left.

    It is behind a text that an encoder reads (`sampling/tokens/encoder_decoder.py`).
    ids, positions: [b, t]. num_padding: [b]. next_position: [b], that of the token that
    comes next, or [b, m] of all that come where those are no run. Positions that are
    None are counted from each prompt's first token.
    """

    ids: np.ndarray
    num_padding: np.ndarray
    positions: np.ndarray | None = None
    next_position: np.ndarray | None = None


def shape_of(shapes: Sequence[tuple[int, int]], image_len: int) -> tuple[int, int]:
    """(rows, columns) of so many codes: the first of the shapes, or else a square."""
    side = math.isqrt(image_len)
    return shapes[0] if shapes else (side, side)


def one_shape(shapes: Sequence[tuple[int, int]]) -> tuple[int, int] | None:
    """The only shape, None of none; ValueError for several."""
    if len(shapes) > 1:
        raise ValueError(
            f"the data has {len(shapes)} shapes of images, and this family learns one: "
            "train a CogView, or build the data with one --aspect"
        )
    return shapes[0] if shapes else None


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

    A sequence that is too long gives its first `length - 2` ids.
    """
    rows = np.zeros((len(sequences), length), np.int32)
    for row, tokens in zip(rows, sequences, strict=True):
        ids = [start, *tokens[: length - 2], start + 1]
        row[: len(ids)] = ids
    return rows
