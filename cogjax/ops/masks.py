"""Which image keys an image query sees: numpy masks, the oracle of layer kinds.

Images are grids in raster order, positions `row * cols + col`; a key is seen where the
mask is True. `ops/sequence.py` says what the rest of a sequence sees. Sources: DALL-E
(Ramesh et al. 2021, appendix B), ERNIE-ViLG (2021, section 3.1), CogView's sparse
attention (its release; section 2.4 of the paper).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

KINDS = ("full", "row", "column", "conv")
EDGES = ("raster", "clip", "torus")
Grid = tuple[int, int]  # (rows, columns) of an image


@dataclass(frozen=True)
class LayerKind:
    """Image keys of an image query in one layer; the direction is the sequence's.

    name: "full" (all), "row", "column" or "conv" (a window of `kernel`, odd).
    row_extent: "raster" is the last `cols + 1` positions, over the row's start (DALL-E:
    33 of 32), "own" the query's own row (ERNIE-ViLG's blocks).
    edge: of conv. "raster" is a band of the flat sequence, which runs over the ends of
    rows (DALL-E's text), "clip" stops at the border (ru-dalle v3), "torus" wraps both
    ways in the grid (ru-dalle v2).
    """

    name: Literal["full", "row", "column", "conv"] = "full"
    kernel: int = 11
    edge: Literal["raster", "clip", "torus"] = "raster"
    row_extent: Literal["raster", "own"] = "raster"

    def __post_init__(self):
        choices = {"name": KINDS, "edge": EDGES, "row_extent": ("raster", "own")}
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise ValueError(
                    f"{name} is {getattr(self, name)!r}, expected one of {known}"
                )
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise ValueError(f"kernel is {self.kernel}, expected an odd number")


FULL = LayerKind("full")


def image_mask(kind: LayerKind, grid: Grid, *, causal: bool = True) -> np.ndarray:
    """bool [m, m]: query, key over the m = rows x cols positions of the image.

    causal: only keys at or before the query in raster order (DALL-E); otherwise the
    same neighbours on both sides (ERNIE-ViLG, image to text).
    """
    rows, cols = grid
    places = np.arange(rows * cols)
    query, key = places[:, None], places[None]  # [m, 1], [1, m]
    down = query // cols - key // cols  # [m, m], rows from the key to the query
    right = query % cols - key % cols
    if kind.name == "full":
        near = np.ones_like(down, bool)
    elif kind.name == "column":
        near = right == 0
    elif kind.name == "conv" and kind.edge == "raster":
        near = _bands(query - key, cols, kind.kernel // 2, causal)
    elif kind.name == "conv":
        near = _window(kind, grid, down, right)
    elif kind.row_extent == "own":
        near = down == 0
    else:
        near = np.abs(query - key) <= cols  # the row, and what is above its rest
    return near & (key <= query) if causal else near


def _bands(back: np.ndarray, cols: int, radius: int, causal: bool) -> np.ndarray:
    """bool [m, m]: key = query - cols * a + b, over the ends of rows."""
    # A causal window has no rows below.
    shifts = range(0 if causal else -radius, radius + 1)
    return np.logical_or.reduce([np.abs(back - cols * a) <= radius for a in shifts])


def _window(kind: LayerKind, grid: Grid, down, right) -> np.ndarray:
    """bool [m, m]: a square around the query, cut or wrapped at the borders."""
    radius, (rows, cols) = kind.kernel // 2, grid
    if kind.edge == "torus":
        down = np.minimum(down % rows, -down % rows)
        right = np.minimum(right % cols, -right % cols)
    return (np.abs(down) <= radius) & (np.abs(right) <= radius)


def sparse_kinds(
    depth: int,
    kernel: int = 11,
    row_extent: Literal["raster", "own"] = "raster",
    edge: Literal["raster", "clip", "torus"] = "raster",
) -> tuple[LayerKind, ...]:
    """Kind of each layer: column for every fourth from the second, conv for the last.

    The other layers are rows. DALL-E's rule and ERNIE-ViLG's; ru-dalle's differs where
    the last layer is a column layer (depth 2, 6, 10, ...), which it leaves one.
    """
    # DALL-E counts from 1: columns are 2, 6, 10, ...
    names = ["column" if i % 4 == 1 else "row" for i in range(depth)]
    names[-1:] = ["conv"] * min(depth, 1)
    return tuple(LayerKind(name, kernel, edge, row_extent) for name in names)


def sample_pivots(
    rng: np.random.Generator, num_text: int, length: int, num_pivots: int
) -> np.ndarray:
    """All text positions and random image positions, sorted: int [num_pivots]."""
    if not num_text <= num_pivots <= length:
        raise ValueError(
            f"num_pivots is {num_pivots}, expected from {num_text} (the text) to "
            f"{length} (all positions)"
        )
    image = rng.permutation(np.arange(num_text, length))[: num_pivots - num_text]
    return np.concatenate([np.arange(num_text), np.sort(image)])


def three_region_mask(
    length: int, window: int, times: int, pivots: Sequence[int] | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """CogView's sparse attention: (mask bool [s, s], bonus float64 [s, s]).

    A query sees the keys of the last `times` blocks of `window` up to itself, and of
    what lies before them the pivots. The bonus, added to the scores, lets a pivot stand
    for its neighbours that were not drawn: log(length // num_pivots).
    """
    if length % window:
        raise ValueError(f"length {length} is no multiple of window {window}")
    places = np.arange(length)
    query, key = places[:, None], places[None]
    far = key // window <= query // window - times
    chosen = np.zeros(length, bool)
    chosen[np.asarray(pivots, int)] = True
    pivot = far & chosen[None]
    bonus = np.where(pivot, np.log(length // len(pivots)), 0.0)
    return (~far & (key <= query)) | pivot, bonus
