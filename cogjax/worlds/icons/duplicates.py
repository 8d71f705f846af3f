"""Drawings that are the same, or nearly, by their pixels."""

from collections.abc import Mapping

import numpy as np

from cogjax.data.images import decode_image
from cogjax.data.overlap import NEAR, nearest, thumbnails
from cogjax.worlds.icons.splits import Item


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
    index, distance = nearest(_thumbnails(images, held), _thumbnails(images, train))
    rows = zip(held, index, distance, strict=True)
    return [(item, train[i], float(d)) for item, i, d in rows if d < NEAR]


def _thumbnails(images: Mapping[Item, bytes], items: list[Item]) -> np.ndarray:
    """One image at a time: all of them would not fit into memory."""
    return np.concatenate([thumbnails(decode_image(images[i])[None]) for i in items])
