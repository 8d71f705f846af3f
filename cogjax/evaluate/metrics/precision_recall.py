"""Improved precision and recall (Kynkaanniemi et al. 2019, arXiv 1904.06991).

Precision is the share of generated images inside the ball of any real one, recall the
share of real ones inside the ball of any generated one; a ball reaches to the k-th
nearest other image of its own side. The paper has VGG16 features, guided-diffusion
Inception's; both fall with fewer images, so compare at equal n only.
"""

import numpy as np

from cogjax.evaluate.metrics.mmd import pairwise_squares
from cogjax.evaluate.metrics.result import MetricValue, Source, check_features

_BLOCK = 1024
_K = 3  # the paper's


def precision_recall(
    reference: np.ndarray, generated: np.ndarray, source: Source
) -> tuple[MetricValue, MetricValue]:
    """Precision and recall of features [n, d] and [m, d], both in [0, 1].

    UserError unless each side has more than 3 images.
    """
    reference, generated = check_features(reference, generated, least=_K + 1)
    # Distances do not change, and lose fewer digits near the origin.
    centre = reference.mean(axis=0)
    reference, generated = reference - centre, generated - centre
    note = f"k {_K}"
    if len(reference) != len(generated):
        note += ", unequal n"
    precision = np.mean(in_any_ball(generated, reference))
    recall = np.mean(in_any_ball(reference, generated))
    sizes = len(generated), len(reference)
    return (
        MetricValue("precision", float(precision), source, *sizes, note=note),
        MetricValue("recall", float(recall), source, *sizes, note=note),
    )


def in_any_ball(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Which points [n, d] lie in the ball of any centre [m, d]: bool [n]."""
    radii = squared_radii(centres, _K)
    return np.concatenate(
        [
            np.any(pairwise_squares(block, centres) <= radii, axis=1)
            for block in _blocks(points)
        ]
    )


def squared_radii(centres: np.ndarray, k: int) -> np.ndarray:
    """Squared distance of each centre [m, d] to its k-th nearest other one, [m]."""
    radii = []
    for start in range(0, len(centres), _BLOCK):
        distances = pairwise_squares(centres[start : start + _BLOCK], centres)
        rows = np.arange(len(distances))
        # A centre is not its own neighbour; a second image that equals it is.
        distances[rows, start + rows] = np.inf
        radii.append(np.partition(distances, k - 1, axis=1)[:, k - 1])
    return np.concatenate(radii)


def _blocks(x: np.ndarray) -> list[np.ndarray]:
    return [x[i : i + _BLOCK] for i in range(0, len(x), _BLOCK)]
