"""Is it the right colour? The colours of an icon's pixels against the palette.

Each pixel is white, a colour of the palette, or a mixture of the two. What it lacks to
white, 255 - RGB, therefore points in the direction of its colour, however pale it is;
it votes for the colour of the nearest direction with its length. Gray and black share
one direction, which the dark strokes of two themes have too: they win only where next
to nothing else is there, gray if enough pixels are as dark as gray is.
"""

import numpy as np

from cogjax.worlds.icons.palette import PALETTE

_NAMES = tuple(name for name in PALETTE if name not in ("gray", "black"))
# What white paper lacks: one row a colour, the last one for gray and black.
_LACKS = 255 - np.array([PALETTE[name] for name in (*_NAMES, "gray")], np.float32)
_DIRECTIONS = _LACKS / np.linalg.norm(_LACKS, axis=1, keepdims=True)
# Chosen on 2,500 drawings, sharp, soft and noisy.
_COLORFUL = 0.03  # least share of the votes that are for neither gray nor black
_FAINT = 48  # pixels that lack less are paper
_GRAY_PIXELS = 0.14  # least share of pixels that are gray, within _GRAY_RANGE
_GRAY_RANGE = 20


def colors(images: np.ndarray) -> list[str]:
    """uint8 [n, y, x, 3] -> the palette's colour of each image, "" for a blank one."""
    return [_color(255 - image.reshape(-1, 3).astype(np.float32)) for image in images]


def _color(lacks: np.ndarray) -> str:
    """lacks: 255 - RGB of all pixels [y * x, 3]."""
    lacks = lacks[lacks.max(1) > _FAINT]
    if not len(lacks):
        return ""
    lengths = np.linalg.norm(lacks, axis=1)
    nearest = (lacks @ _DIRECTIONS.T).argmax(1)
    votes = np.bincount(nearest, lengths, len(_DIRECTIONS))
    if votes[:-1].sum() >= _COLORFUL * votes.sum():
        return _NAMES[votes[:-1].argmax()]
    gray = np.abs(lacks.mean(1) - (255 - PALETTE["gray"][0])) < _GRAY_RANGE
    return "gray" if gray.mean() >= _GRAY_PIXELS else "black"
