"""Images of shapes read back: the exact judge of `dataset.py`, without a network.

    background by its light, near-grey colours -> connected pieces of the rest ->
    colour by the vote of each piece's inside -> how much of every pixel it covers ->
    shape, centre and radius by the best of eight templates

A piece whose best template agrees too little is unknown, and an image with it is never
right: the oracle abstains rather than guesses.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from cogjax.worlds.shapes.scenes import (
    COLOURS,
    CONTRAST,
    GROUNDS,
    SHAPES,
    Item,
    Scene,
    coverage,
)

UNKNOWN = "unknown"
# Thresholds, chosen on renders of seed 1 under noise, blur and JPEG.
_FAR = 62.0  # from the nearest background colour, in grey levels of RGB distance
_LEAST_AREA = 0.004  # of the image: half of the smallest shape
_SPECK = 0.001
_LEAST_AGREEMENT = 0.68
_RADII = 0.08, 0.21  # shares of the side that a shape may have: the world has two
_MARGIN = 3  # pixels around a piece
# Below this agreement templates are also tried as soft as a blurred image, in pixels.
_SHARP, _SOFT = 0.9, (0.8, 1.3)
_PALETTE = np.array(list(COLOURS.values()), float)
_LUMA = np.array([[0.299], [0.587], [0.114]])  # of a JPEG file
_LIGHT = np.array([[g, np.subtract(g, CONTRAST)] for g in GROUNDS], float).reshape(
    -1, 3
)


@dataclass(frozen=True)
class Found:
    """A piece of an image; `item.shape` may be UNKNOWN.

    agreement: intersection over union with the best template, in [0, 1].
    """

    item: Item
    agreement: float


def find_shapes(image: np.ndarray, side: int | None = None) -> list[Found]:
    """All shapes of an image uint8 [y, x, 3].

    side: pixels that a length of 1 has, 32 or more; None is a square's height.
    """
    pixels, side = image.astype(float), side or len(image)
    apart = np.sqrt(_square_distance(pixels, _LIGHT).min(-1))
    labels, count = ndimage.label(apart > _FAR, structure=np.ones((3, 3)))
    found = []
    for label, box in enumerate(ndimage.find_objects(labels, count), 1):
        share = np.count_nonzero(labels[box] == label) / side**2
        if share > _SPECK:
            item, agreement = _read(pixels, labels, label, box, side)
            if share < _LEAST_AREA:  # There, but too small to be named.
                item = replace(item, shape=UNKNOWN)
            found.append(Found(item, agreement))
    return found


def items_of(found: Sequence[Found]) -> list[Item]:
    """The items alone."""
    return [piece.item for piece in found]


def same_scene(scene: Scene, found: Sequence[Found], near: float = 0.03) -> bool:
    """Whether shape, colour, size and place (to `near` of the side) of all agree."""
    left = items_of(found)
    for item in scene.items:
        match = next((other for other in left if _same(item, other, near)), None)
        if match is None:
            return False
        left.remove(match)
    return not left


def _same(a: Item, b: Item, near: float) -> bool:
    alike = (a.shape, a.colour, a.size) == (b.shape, b.colour, b.size)
    return alike and max(abs(a.x - b.x), abs(a.y - b.y)) <= near


def _square_distance(pixels: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """[..., 3] against [k, 3] -> [..., k]."""
    return np.square(pixels[..., None, :] - colours).sum(-1)


def _read(pixels, labels, label: int, box, side: int) -> tuple[Item, float]:
    """The item of a piece, and how far it agrees with its template."""
    top, left = (max(0, part.start - _MARGIN) for part in box)
    window = tuple(
        slice(start, part.stop + _MARGIN)
        for start, part in zip((top, left), box, strict=True)
    )
    mask = labels[window] == label
    hue, colour = _colour(pixels[window], mask)
    part, where = pixels[window], labels[window]
    fit = _fit(_cover(part, mask, where, hue), side)
    if fit[-1] < _SHARP:
        # JPEG keeps brightness sharper than colour.
        grey = _fit(_cover(part @ _LUMA, mask, where, hue @ _LUMA), side)
        fit = max(fit, grey, key=lambda found: found[-1])
    shape, (x, y), radius, agreement = fit
    if agreement < _LEAST_AGREEMENT:
        shape = UNKNOWN
    item = Item(shape, colour, (left + x) / side, (top + y) / side, radius / side)
    return item, agreement


def _colour(pixels, mask) -> tuple[np.ndarray, str]:
    """(the colour of the inside, the name that most of its pixels are nearest to)."""
    inside = ndimage.binary_erosion(mask)
    core = pixels[inside if np.count_nonzero(inside) >= 4 else mask]
    votes = np.bincount(
        _square_distance(core, _PALETTE).argmin(-1), minlength=len(COLOURS)
    )
    return np.median(core, axis=0), list(COLOURS)[votes.argmax()]


def _cover(pixels, mask, labels, hue) -> np.ndarray:
    """Share of each pixel that the piece covers: how far from ground to hue it is.

    pixels [y, x, c], hue [c].
    """
    # Pale colours are lost two pixels deep where the image is soft.
    around = np.ones((3, 3))
    near = ndimage.binary_dilation(mask, around, iterations=2)
    near &= ~ndimage.binary_dilation((labels > 0) & ~mask, around)
    ground = (
        np.median(pixels[labels == 0], axis=0) if (labels == 0).any() else _LIGHT[0]
    )
    along = hue - ground
    share = (pixels - ground) @ along / max(along @ along, 1e-9)
    # The ends are widened so that texture and noise do not count as edges.
    return np.clip((share - 0.15) / 0.7, 0, 1) * near


def _fit(cover: np.ndarray, side: int) -> tuple[str, tuple[float, float], float, float]:
    """(shape, centre in pixels, radius in pixels, agreement) of the best template."""
    rows, columns = (np.arange(n) + 0.5 for n in cover.shape)
    total = max(cover.sum(), 1e-9)
    middle = (cover @ columns).sum() / total, (rows @ cover).sum() / total
    templates = {}
    for shape, (area, right, down) in _MOMENTS.items():
        radius = np.sqrt(total / area)
        centre = middle[0] - right * radius, middle[1] - down * radius
        if _RADII[0] <= radius / side <= _RADII[1]:
            templates[shape, centre, radius] = coverage(
                shape, centre, radius, cover.shape
            )
    if not templates:
        return UNKNOWN, middle, np.sqrt(total / np.pi), 0.0
    found, best = _best(cover, templates)
    for sigma in _SOFT if best < _SHARP else ():
        soft = {k: ndimage.gaussian_filter(v, sigma) for k, v in templates.items()}
        found, best = max((found, best), _best(cover, soft), key=lambda fit: fit[1])
    return *found, best


def _best(cover: np.ndarray, templates: dict) -> tuple[tuple, float]:
    """(key of the template with the largest intersection over union, that share)."""
    shares = {
        key: np.minimum(cover, one).sum() / max(np.maximum(cover, one).sum(), 1e-9)
        for key, one in templates.items()
    }
    key = max(shares, key=shares.get)
    return key, float(shares[key])


def _moments(shape: str) -> tuple[float, float, float]:
    """Area in squared radii, and the centre of mass in radii from the centre."""
    mask = coverage(shape, (64, 64), 50, (128, 128))
    places = (np.arange(128) + 0.5 - 64) / 50
    area = mask.sum()
    return area / 50**2, (mask @ places).sum() / area, (places @ mask).sum() / area


_MOMENTS = {shape: _moments(shape) for shape in SHAPES}
