"""Is it the right thing? The nearest real drawings in other styles, by any features.

The features see no colour. An image in style S is compared with drawings in all styles
but S. So it is never beside the drawing that it was asked to be, nor beside the same
strokes in another colour, which would be the same to features without colour. All
concepts that the set draws in S compete. A concept that is drawn in S alone competes
with its drawing in S, and is not asked for.

Some drawings cannot be told apart. Concepts with nearly the same drawing in a style are
one to this judge, and a drawing nearly the same as the target is left out like it.
"""

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from functools import cached_property

import numpy as np

from cogjax.evaluate.judges.icon_net import darkness, shrink
from cogjax.worlds.icons.splits import Item

# Root mean square of the difference of two thumbnails, darkness in [0, 1].
NEAR = 0.03
_THUMBNAIL = 16
_CHUNK = 256


@dataclass(frozen=True)
class Gallery:
    """Real drawings, one a concept and style, sorted; make it with `make_gallery`.

    thumbnails: float32 [m, 256]. of: number of each one's concept, int [m].
    twins: bool [concepts, concepts], True on the diagonal.
    """

    items: tuple[Item, ...]
    thumbnails: np.ndarray
    of: np.ndarray
    twins: np.ndarray

    @cached_property
    def styles(self) -> np.ndarray:
        """str [m]."""
        return np.array([item.style for item in self.items])

    @cached_property
    def places(self) -> dict[tuple[str, str], int]:
        """Where the drawing of a concept in a style is, in whichever colour."""
        return {(x.concept, x.style): place for place, x in enumerate(self.items)}

    def witnesses(self, item: Item) -> np.ndarray:
        """Places int [w] of the drawings that may prove `item`'s concept."""
        place = self.places[item.concept, item.style]
        (mine,) = np.nonzero(self.of == self.of[place])
        # Its own drawing, the only one in its style, has no distance to itself.
        return mine[_apart(self.thumbnails[mine], self.thumbnails[place]) >= NEAR]

    def ranks(
        self, features: np.ndarray, queries: np.ndarray, asked: Sequence[Item]
    ) -> np.ndarray:
        """Rank of the right concept of each query, 0 is first; float [n].

        NaN where no drawing could prove it. Features of a style are centred: what its
        drawings share says nothing. A tie is lost.

        Args:
          features: float [m, d] of the gallery. queries: float [n, d] of the images.
          asked: what each image should show.
        """
        ranks = np.full(len(asked), np.nan)
        wanted = np.array([item.style for item in asked])
        middles = {s: features[self.styles == s].mean(0) for s in set(self.styles)}
        known = _unit(features - np.stack([middles[s] for s in self.styles]))
        for style in sorted(set(wanted)):
            (mine,) = np.nonzero(wanted == style)
            for rows in np.split(mine, range(_CHUNK, len(mine), _CHUNK)):
                similar = _unit(queries[rows] - middles[style]) @ known.T  # [k, m]
                ranks[rows] = self._ranks(similar, [asked[i] for i in rows], style)
        return ranks

    def _ranks(self, similar: np.ndarray, asked: Sequence[Item], style: str):
        """Ranks of images that were all asked for in one style."""
        starts = np.flatnonzero(np.diff(self.of, prepend=-1))
        inside = self.styles == style
        drawn = np.logical_or.reduceat(inside, starts)  # [concepts]
        alone = np.logical_and.reduceat(inside, starts)
        shown = np.where(~inside | alone[self.of], similar, -np.inf)
        best = np.maximum.reduceat(shown, starts, axis=1)  # [k, concepts]
        ranks = np.full(len(asked), np.nan)
        for row, item in enumerate(asked):
            witnesses = self.witnesses(item)
            if len(witnesses):
                rivals = drawn & ~self.twins[self.of[witnesses[0]]]
                own = similar[row, witnesses].max()
                ranks[row] = np.sum(best[row, rivals] >= own)
        return ranks


def first_colors(items: Sequence[Item]) -> list[int]:
    """Places of one drawing a concept and style, in the order of a gallery."""
    order = sorted(range(len(items)), key=lambda i: astuple(items[i]))
    found = {}
    for place in order:
        found.setdefault((items[place].concept, items[place].style), place)
    return list(found.values())


def thumbnails_of(images: np.ndarray) -> np.ndarray:
    """uint8 [n, y, x, 3] -> darkness float32 [n, 256] of 16 x 16 pixels."""
    return darkness(shrink(images, _THUMBNAIL)).reshape(len(images), -1)


def make_gallery(items: Sequence[Item], thumbnails: np.ndarray) -> Gallery:
    """The gallery of drawings in the order of `first_colors`, by `thumbnails_of`."""
    numbers = np.unique([item.concept for item in items], return_inverse=True)[1]
    twins = np.eye(numbers.max() + 1, dtype=bool)
    styles = np.array([item.style for item in items])
    for style in set(styles):
        (mine,) = np.nonzero(styles == style)
        for one, other in _near_pairs(thumbnails[mine]):
            a, b = numbers[mine[one]], numbers[mine[other]]
            twins[a, b] = twins[b, a] = True
    return Gallery(tuple(items), thumbnails, numbers, twins)


def _near_pairs(thumbnails: np.ndarray):
    """(i, j), i < j, of thumbnails that are nearly the same."""
    for start in range(0, len(thumbnails), _CHUNK):
        chunk = thumbnails[start : start + _CHUNK]
        squares = np.sum(thumbnails**2, 1) - 2 * chunk @ thumbnails.T
        squares += np.sum(chunk**2, 1)[:, None]
        near = squares < NEAR**2 * thumbnails.shape[1]
        rows, columns = np.nonzero(near)
        yield from (
            (start + i, j) for i, j in zip(rows, columns, strict=True) if start + i < j
        )


def _apart(thumbnails: np.ndarray, one: np.ndarray) -> np.ndarray:
    return np.sqrt(np.mean((thumbnails - one) ** 2, axis=-1))


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-9)
