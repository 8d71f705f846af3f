"""Images of one split that are nearly in another (DALL-E, section 3.2).

For each image of B the nearest of A is found, by thumbnails or by any other vectors. Up
to a distance that is chosen by eye on a sheet of the nearest pairs, B's are left out.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from cogjax.data.contact_sheet import grid
from cogjax.data.images import decode_image
from cogjax.data.output import Output, Progress
from cogjax.data.records import Manifest, Split, open_split, read_manifest
from cogjax.errors import UserError

SIDE = 16  # of the thumbnails
# Root mean square of the difference of two thumbnails, in [0, 255]. Chosen on a sheet
# of the nearest pairs of `icons`: below it the same drawing, above it others of a kind.
NEAR = 10.0
_CHUNK = 512
# uint8 [n, y, x, 3] -> float32 [n, d]; the root mean square of a difference of two rows
# is the distance of the images.
Vectors = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Pair:
    """An image of B and the nearest of A, by their places in the splits."""

    b: int
    a: int
    distance: float


def thumbnails(images: np.ndarray) -> np.ndarray:
    """uint8 [n, y, x, 3] -> float32 [n, 16 * 16 * 3] in [0, 255]."""
    size, box = (SIDE, SIDE), Image.Resampling.BOX
    small = [Image.fromarray(image).resize(size, box) for image in images]
    return np.stack([np.asarray(image, np.float32).reshape(-1) for image in small])


def nearest(queries: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The nearest other of each query: index int [n], distance float [n].

    queries [n, d], others [m, d]; the distance is the root of the mean square.
    """
    index, distance = [], []
    squares = np.sum(others * others, axis=1)
    for start in range(0, len(queries), _CHUNK):
        chunk = queries[start : start + _CHUNK]
        best = np.argmin(squares - 2 * chunk @ others.T, axis=1)
        index.append(best)
        # Anew: the expanded square cancels where both are bright and equal.
        distance.append(np.sqrt(np.mean(np.square(chunk - others[best]), axis=1)))
    return np.concatenate(index), np.concatenate(distance)


def find_pairs(
    a: Split, b: Split, vectors: Vectors = thumbnails, progress: Progress | None = None
) -> list[Pair]:
    """Each image of B with the nearest of A, nearest first; UserError if empty."""
    if not len(a) or not len(b):
        raise UserError("one of the two splits is empty: there is nothing to compare")
    progress = progress or (lambda done, total, label: None)
    total = len(a) + len(b)
    rows, done = [], 0
    for source in (b, a):
        parts = []
        for images in _chunks(source):
            progress(done, total, "reading images")
            parts.append(vectors(images))
            done += len(images)
        rows.append(np.concatenate(parts))
    progress(total, total, "reading images")
    index, distance = nearest(*rows)
    order = np.argsort(distance, kind="stable")
    return [Pair(int(i), int(index[i]), float(distance[i])) for i in order]


def _chunks(source: Split) -> Iterator[np.ndarray]:
    """Images of a split, uint8 [n, y, x, 3], some at a time."""
    for start in range(0, len(source), _CHUNK):
        which = range(start, min(start + _CHUNK, len(source)))
        yield np.stack([decode_image(source[i].image) for i in which])


def sheet(a: Split, b: Split, pairs: list[Pair], size: int = 64) -> Image.Image:
    """Pairs side by side, first B's with the distance, then A's."""
    images, captions = [], []
    for pair in pairs:
        for item, text in ((b[pair.b], f"{pair.distance:.3g}"), (a[pair.a], "")):
            images.append(decode_image(item.image, size))
            captions.append(text)
    return grid(np.stack(images), 8, captions)


def write_without(
    folder: str, split: str, left_out: Collection[int], output: Output
) -> Manifest:
    """Copies a data set but for the images at some places of one split.

    The new manifest tells of it, and keeps the old one's info under "before".
    """
    old, left_out = read_manifest(folder), frozenset(left_out)
    shards = {
        name: sum(file.startswith(f"{name}-") for file in old.checksums)
        for name in old.counts
    }
    with output.builder(old.kind, shards) as builder:
        for name in old.counts:
            source = open_split(folder, name)
            for i in range(len(source)):
                if name != split or i not in left_out:
                    builder.write(name, source[i])
        for name in old.files:
            builder.write_text(name, (Path(folder) / name).read_text("utf-8"))
        done = {"of": old.fingerprint, "split": split, "left_out": len(left_out)}
        return builder.finish({"overlap": done, "before": old.info})
