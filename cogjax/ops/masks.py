"""Which keys a query sees: boolean numpy arrays, the oracle of all attention forms.

Images are grids in raster order; position `rows * cols` long, a key is seen where the
mask is True. Sources: DALL-E (Ramesh et al. 2021, appendix B), ERNIE-ViLG (2021,
section 3.1), CogView's sparse attention (its release; section 2.4 of the paper).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

KINDS = ("full", "row", "column", "conv")
EDGES = ("raster", "clip", "torus")


@dataclass(frozen=True)
class Pattern:
    """Image keys of an image query, on a grid of `rows` x `cols`.

    kind: "full" (all), "row", "column" or "conv" (a window of `kernel`, odd).
    causal: keep only keys at or before the query in raster order (DALL-E); otherwise
    the same neighbours on both sides (ERNIE-ViLG, image to text).
    row_extent: "raster" is the last `cols + 1` positions, over the row's start (DALL-E:
    33 of 32), "own" the query's own row (ERNIE-ViLG's blocks).
    edge: of conv. "raster" is a band of the flat sequence, which runs over the ends of
    rows (DALL-E's text), "clip" stops at the border (ru-dalle v3), "torus" wraps both
    ways in the grid (ru-dalle v2).
    """

    kind: Literal["full", "row", "column", "conv"]
    rows: int
    cols: int
    causal: bool = True
    kernel: int = 11
    edge: Literal["raster", "clip", "torus"] = "raster"
    row_extent: Literal["raster", "own"] = "raster"

    def __post_init__(self):
        choices = {"kind": KINDS, "edge": EDGES, "row_extent": ("raster", "own")}
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise ValueError(
                    f"{name} is {getattr(self, name)!r}, expected one of {known}"
                )
        if min(self.rows, self.cols) < 1:
            raise ValueError(f"a grid of {self.rows} x {self.cols} has no positions")
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise ValueError(f"kernel is {self.kernel}, expected an odd number")

    @property
    def length(self) -> int:
        """Positions of the image."""
        return self.rows * self.cols


def image_mask(pattern: Pattern) -> np.ndarray:
    """bool [m, m]: query, key over the m positions of the image."""
    places = np.arange(pattern.length)
    query, key = places[:, None], places[None]
    down = query // pattern.cols - key // pattern.cols
    right = query % pattern.cols - key % pattern.cols
    if pattern.kind == "full":
        near = np.ones_like(down, bool)
    elif pattern.kind == "column":
        near = right == 0
    elif pattern.kind == "conv":
        near = _conv(pattern, query - key, down, right)
    elif pattern.row_extent == "own":
        near = down == 0
    else:
        near = np.abs(query - key) <= pattern.cols
    return near & (key <= query) if pattern.causal else near


def _conv(pattern: Pattern, back, down, right):
    radius = pattern.kernel // 2
    if pattern.edge == "raster":
        # key = query - cols * a + b; a causal window has no rows below.
        first = 0 if pattern.causal else -radius
        shifts = range(first, radius + 1)
        bands = [np.abs(back - pattern.cols * a) <= radius for a in shifts]
        return np.logical_or.reduce(bands)
    if pattern.edge == "torus":
        down = np.minimum(down % pattern.rows, -down % pattern.rows)
        right = np.minimum(right % pattern.cols, -right % pattern.cols)
    return (np.abs(down) <= radius) & (np.abs(right) <= radius)


def text_to_image_mask(
    pattern: Pattern, num_text: int, *, text_causal: bool = True
) -> np.ndarray:
    """bool [s, s] over [text, image]: an image query sees all text and its pattern.

    text_causal: DALL-E's text sees the text before it; ERNIE-ViLG's (False) sees all
    text, as a prefix does.
    """
    total = num_text + pattern.length
    mask = np.zeros((total, total), bool)
    mask[:, :num_text] = True
    if text_causal:
        mask[:num_text, :num_text] = np.tri(num_text, dtype=bool)
    mask[num_text:, num_text:] = image_mask(pattern)
    return mask


def image_to_text_mask(
    pattern: Pattern, num_text: int, num_question: int = 0, num_asked: int = 1
) -> np.ndarray:
    """bool [s, s] over [image, text]: text sees the image and the text before it.

    num_question: so many first text positions also see each other both ways. num_asked:
    so many texts in turn, of num_text / num_asked positions each, none sees another.
    """
    total = pattern.length + num_text
    mask = np.ones((total, total), bool)
    mask[pattern.length :, pattern.length :] = text_mask(
        num_text, num_question, num_asked
    )
    mask[: pattern.length] = False
    mask[: pattern.length, : pattern.length] = image_mask(pattern)
    return mask


def text_mask(num_text: int, num_source: int = 0, num_asked: int = 1) -> np.ndarray:
    """bool [t, t] of text: causal, but that all see the first `num_source` positions.

    num_asked: so many texts in turn, each of that form, none sees another.
    """
    one = num_text // num_asked
    mask = np.tri(one, dtype=bool) | (np.arange(one) < num_source)
    return np.kron(np.eye(num_asked, dtype=bool), mask)


def hide_padding(mask: np.ndarray, padding: np.ndarray) -> np.ndarray:
    """Hides keys that are padding; a padding query keeps itself, so no row is empty.

    mask: bool [s, s]; padding: bool [s]. DALL-E does not do this: its padding is learnt
    and visible.
    """
    return mask & (~padding[None] | np.eye(len(mask), dtype=bool))


def layer_kinds(depth: int, rule: Literal["dalle", "ru-dalle"]) -> tuple[str, ...]:
    """Kind of each layer: column for every fourth from the second, conv for the last.

    "dalle" is also ERNIE-ViLG's rule. "ru-dalle" asks for the column first, so where
    the last layer is a column layer (depth 2, 6, 10, ...) there is no conv.
    """
    if rule not in ("dalle", "ru-dalle"):
        raise ValueError(f"rule is {rule!r}, expected 'dalle' or 'ru-dalle'")
    kinds = ["column" if i % 4 == 1 else "row" for i in range(depth)]
    if kinds and (rule == "dalle" or kinds[-1] != "column"):
        kinds[-1] = "conv"
    return tuple(kinds)


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
