"""Attention as an image: one panel a text piece, and what a code is made of."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from cogjax.data.contact_sheet import grid
from cogjax.data.images import as_image, on_white

_SIDE = 144  # pixels of a panel's longer side
_COLUMNS, _MOST = 6, 47  # panels a row, pieces
_SHARE = 0.65  # of the heat in a pixel, against the image in grey
# From nothing to the most: black, violet, red, orange, pale yellow.
_HEAT = ((0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164))
_MARK = (0, 200, 255)


def attention_sheet(
    image: Any,
    maps: Sequence[np.ndarray],
    captions: Sequence[str],
    mark: tuple[int, int] | None = None,
) -> Image.Image:
    """The image, and then it under each map.

    image: as of `as_image`. maps: float [rows, columns] each, 0 or more; each is
    as bright as its own highest value. mark: (row, column) of a map that has a frame.
    """
    image = on_white(as_image(image))
    scale = _SIDE / max(image.size)
    size = tuple(max(1, round(side * scale)) for side in image.size)
    plain = np.asarray(image.resize(size, Image.Resampling.NEAREST))
    grey = np.asarray(image.convert("L").resize(size, Image.Resampling.NEAREST))
    panels = [plain, *(_panel(grey, found, mark) for found in maps[:_MOST])]
    words = ["the image", *captions[:_MOST]]
    return grid(np.stack(panels), _COLUMNS, words, gap=6)


def _panel(
    grey: np.ndarray, found: np.ndarray, mark: tuple[int, int] | None
) -> np.ndarray:
    """uint8 [y, x, 3]: heat over an image in grey [y, x]."""
    height, width = grey.shape
    rows, columns = found.shape
    down, right = (
        np.arange(height) * rows // height,
        np.arange(width) * columns // width,
    )
    share = found / max(float(found.max()), 1e-12)
    share = share[np.ix_(down, right)]
    stops = np.linspace(0, 1, len(_HEAT))
    heat = np.stack(
        [np.interp(share, stops, channel) for channel in np.transpose(_HEAT)], -1
    )
    panel = _SHARE * heat + (1 - _SHARE) * grey[..., None]
    if mark is not None:
        inside = np.outer(down == mark[0], right == mark[1])
        edge = inside & ~_shrunk(inside)
        panel[edge] = _MARK
    return np.round(panel).astype(np.uint8)


def _shrunk(inside: np.ndarray) -> np.ndarray:
    """bool [y, x] without the two outermost pixels."""
    for _ in range(2):
        padded = np.pad(inside, 1)
        inside = (
            inside
            & padded[:-2, 1:-1]
            & padded[2:, 1:-1]
            & padded[1:-1, :-2]
            & padded[1:-1, 2:]
        )
    return inside
