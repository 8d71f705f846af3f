"""Drawings that are the same, or nearly, by their pixels."""

from collections.abc import Mapping

import numpy as np
from PIL import Image

from cogjax.data.images import decode_image
from cogjax.worlds.icons.splits import Item

_SIDE = 16  # of the thumbnails that are compared
# Root mean square of the difference of two thumbnails, in [0, 255]. Chosen on a sheet
# of the nearest pairs: below it the same drawing, above it others of the same kind.
NEAR = 10.0
_CHUNK = 512


def same_pixels(images: Mapping[Item, bytes]) -> dict[Item, Item]:
    """Items whose image is another's to the bit, each with the first of them."""
    first, found = {}, {}
    for item, png in images.items():
        if png in first:
            found[item] = first[png]
        first.setdefault(png, item)
    return found


def near_train(images: Mapping[Item, bytes], splits: Mapping[Item, str]) -> list:
    """(held-out item, item of train, distance) of nearly the same drawings."""
    train = [item for item in images if splits[item] == "train"]
    held = [item for item in images if splits[item] != "train"]
    if not train or not held:
        return []
    index, distance = _nearest(_thumbnails(images, held), _thumbnails(images, train))
    rows = zip(held, index, distance, strict=True)
    return [(item, train[i], float(d)) for item, i, d in rows if d < NEAR]


def _thumbnails(images: Mapping[Item, bytes], items: list[Item]) -> np.ndarray:
    """float32 [n, 16 * 16 * 3] in [0, 255]."""
    return np.stack([_thumbnail(images[item]) for item in items])


def _thumbnail(png: bytes) -> np.ndarray:
    image = Image.fromarray(decode_image(png))
    small = image.resize((_SIDE, _SIDE), Image.Resampling.BOX)
    return np.asarray(small, np.float32).reshape(-1)


def _nearest(queries: np.ndarray, others: np.ndarray):
    """The nearest other of each query: index int [n], distance float [n]."""
    index, distance = [], []
    squares = np.sum(others * others, axis=1)
    for start in range(0, len(queries), _CHUNK):
        chunk = queries[start : start + _CHUNK]
        found = squares - 2 * chunk @ others.T + np.sum(chunk * chunk, 1)[:, None]
        index.append(found.argmin(1))
        distance.append(np.sqrt(np.maximum(found.min(1), 0) / others.shape[1]))
    return np.concatenate(index), np.concatenate(distance)
