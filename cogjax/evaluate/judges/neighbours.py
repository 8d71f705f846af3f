"""Is it the right thing? The nearest real image in a simple pixel space.

The space is the image at 16 x 16 pixels, blurred. It has no parameters and sees nothing
but the places of colours.
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image

SIDE = 16
_SIGMA = 1.0


def embed(images: np.ndarray) -> np.ndarray:
    """uint8 [n, y, x, 3] -> float32 [n, 768]: averaged to 16 x 16, then blurred."""
    small = [
        Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BOX)
        for image in images
    ]
    pixels = np.stack([np.asarray(image, np.float32) / 255 for image in small])
    for axis in (1, 2):
        pixels = _blur(pixels, axis)
    return pixels.reshape(len(images), -1)


def concept_ranks(
    queries: np.ndarray,
    concepts: Sequence[str],
    gallery: np.ndarray,
    gallery_concepts: Sequence[str],
) -> np.ndarray:
    """Rank of each query's own concept among those of the gallery, int [n], 0 is first.

    queries [n, 768], gallery [m, 768]: one style, one image a concept. Every concept
    of `concepts` must be in the gallery.
    """
    place = {concept: i for i, concept in enumerate(gallery_concepts)}
    # [n, m], squared
    distances = (
        np.sum(queries**2, 1)[:, None]
        - 2 * queries @ gallery.T
        + np.sum(gallery**2, 1)[None]
    )
    own = distances[np.arange(len(queries)), [place[c] for c in concepts]]
    return np.sum(distances < own[:, None], axis=1)


def _blur(pixels: np.ndarray, axis: int) -> np.ndarray:
    """Gaussian along one axis, edges repeated."""
    offsets = np.arange(-3, 4)
    weights = np.exp(-(offsets**2) / (2 * _SIGMA**2))
    weights /= weights.sum()
    places = np.clip(np.arange(SIDE)[:, None] + offsets, 0, SIDE - 1)  # [16, 7]
    gathered = np.take(pixels, places, axis=axis)
    return np.tensordot(gathered, weights.astype(np.float32), ([axis + 1], [0]))
