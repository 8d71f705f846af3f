"""Blurred FID-k: FID of images behind a Gaussian filter (DALL-E, section 3.1).

The papers leave two things open; each is an option, and the value of a metric names it.

- *What is blurred.* DALL-E writes "both the validation images and the samples":
  `both`. CogView's author says that only the originals were blurred (issue 38 of its
  repository), and its table falls and then rises with k, as `reference` does and `both`
  hardly can. Compare with CogView's Table 1 by `reference` only.
- *What "radius k" is.* `pil`: PIL's GaussianBlur(k), three boxes that together have
  sigma k. `gaussian`: the Gaussian itself, sigma = k; the two differ by a grey level,
  and by up to 20 at the frame, since PIL repeats the edge before each box. `lafite`:
  2k + 1 taps with the box's own deviation, sigma = (((2k + 1)^2 - 1) / 12)^1/2.

Blur at the images' own size (256 in the papers), before the network's resize.
"""

import functools
from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np

from cogjax.errors import UserError
from cogjax.evaluate.metrics.frechet import Moments, fid
from cogjax.evaluate.metrics.resize import apply_separable, check_images
from cogjax.evaluate.metrics.result import MetricValue, Source

RADII = (0, 1, 2, 4, 8)
MODES = ("both", "reference")
RULES = ("pil", "gaussian", "lafite")


def gaussian_blur(images: np.ndarray, radius: int, rule: str) -> np.ndarray:
    """uint8 [n, y, x, c] -> the same, blurred, rounded to uint8; radius 0: unchanged.

    rule: of the docstring above. `pil` and `gaussian`, which is cut at 4 sigma, repeat
    the edges; `lafite` mirrors them as torchvision does. UserError for another rule.
    """
    if rule not in RULES or radius < 0:
        raise UserError(
            f"blur radius {radius} by rule {rule!r}: expected 0 or more and one of "
            f"{', '.join(RULES)}"
        )
    check_images(images)
    if images.dtype != np.uint8:
        raise UserError(f"blur needs uint8 images, got {images.dtype}")
    if radius == 0:
        return images
    rows, columns = (blur_matrix(n, radius, rule) for n in images.shape[1:3])
    # Float rounding must not lift a flat 255 above itself.
    blurred = np.rint(apply_separable(images, rows, columns))
    return np.clip(blurred, 0, 255).astype(np.uint8)


@functools.lru_cache(maxsize=64)
def blur_matrix(size: int, radius: int, rule: str) -> np.ndarray:
    """Weights float32 [size, size] of one axis; rows sum to 1. Not to be written to."""
    if rule == "pil":
        # The box is repeated at the size's edges, hence the product of matrices.
        matrix = np.linalg.matrix_power(_filter(size, _box(radius), "edge"), 3)
    elif rule == "gaussian":
        matrix = _filter(size, _gaussian(4 * radius, radius), "edge")
    else:
        sigma = np.sqrt(((2 * radius + 1) ** 2 - 1) / 12)
        matrix = _filter(size, _gaussian(radius, sigma), "reflect")
    matrix = matrix.astype(np.float32)
    matrix.flags.writeable = False
    return matrix


def blurred_fid(
    reference: Iterable[np.ndarray],
    generated: Iterable[np.ndarray],
    extract: Callable[[np.ndarray], np.ndarray],
    source: Source,
    mode: str,
    rule: str,
) -> list[MetricValue]:
    """FID-k for each k of `RADII`, named "FID-2[both]".

    Args:
      reference, generated: batches of uint8 images [n, y, x, c]; gone through once a
        radius, so lists or objects with `__iter__`, not generators.
      extract: images uint8 -> features [n, d], by the network that `source` names.
      mode: "both" or "reference", the sets that are blurred. rule: what a radius is.
    """
    if mode not in MODES:
        raise UserError(f"blur mode {mode!r}: expected {' or '.join(MODES)}")
    for batches in (reference, generated):
        if iter(batches) is batches:
            raise UserError("images are read once a radius: give a list, no generator")

    def moments(batches, radius):
        total = None
        for images in batches:
            batch = Moments.of(extract(gaussian_blur(images, radius, rule)))
            total = batch if total is None else total.merge(batch)
        if total is None:
            raise UserError("a set of images is empty: 2 a side are needed at least")
        return total

    metrics, compared = [], None
    for radius in RADII:
        if mode == "both" or compared is None:
            compared = moments(generated, radius if mode == "both" else 0)
        blurred = replace(source, blur=f"{mode}, {rule}, radius {radius}")
        metric = fid(moments(reference, radius), compared, blurred)
        metrics.append(replace(metric, name=f"{metric.name}-{radius}[{mode}]"))
    return metrics


def _filter(size: int, taps: np.ndarray, edge: str) -> np.ndarray:
    """The filter of odd `taps`, normalised, on an axis with that edge: [size, size]."""
    sources = np.pad(np.arange(size), len(taps) // 2, mode=edge)
    matrix = np.zeros((size, size))
    for offset, weight in enumerate(taps / taps.sum()):
        np.add.at(matrix, (np.arange(size), sources[offset : offset + size]), weight)
    return matrix


def _gaussian(reach: int, sigma: float) -> np.ndarray:
    return np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))


def _box(radius: int) -> np.ndarray:
    """Taps (a, 1, ..., 1, a) of variance radius^2 / 3, a < 1 (Gwosdek et al. 2011)."""
    variance = radius**2 / 3
    reach = int((np.sqrt(12 * variance + 1) - 1) / 2)
    full = 2 * reach + 1
    outer = variance - reach * (reach + 1) / 3
    outer *= full / (2 * ((reach + 1) ** 2 - variance))
    return np.array([outer, *[1.0] * full, outer])
