"""Maximum mean discrepancies: KID and CMMD, with kernels in blocks.

    MMD^2 = E k(x, x') + E k(y, y') - 2 E k(x, y)

KID (Binkowski et al. 2018, arXiv 1801.01401) has the cubic kernel (x.y / d + 1)^3 and
no diagonal, so that its mean is 0 for equal distributions, at any n: the choice for few
images. CMMD (Jayasumana et al. 2024, arXiv 2401.09603) has a Gaussian of sigma 10 on
CLIP embeddings of length 1, and the diagonal. Those are so close that the kernel is a
parabola: 1000 CMMD is 10 |mean x - mean y|^2 to a percent, blind to lack of variety.
"""

from collections.abc import Callable

import numpy as np

from cogjax.errors import UserError
from cogjax.evaluate.metrics.result import (
    CLIP,
    INCEPTION,
    MetricValue,
    Source,
    check_features,
)

_BLOCK = 2048
_SCALE, _SIGMA = 1000.0, 10.0  # of CMMD
_SEED = 2020  # of torch-fidelity's KID
Kernel = Callable[[np.ndarray, np.ndarray], np.ndarray]


def kid(
    reference: np.ndarray,
    generated: np.ndarray,
    source: Source,
    *,
    subsets: int | None = 100,
    subset_size: int = 1000,
) -> MetricValue:
    """KID of features [n, d] and [m, d], not scaled.

    The mean over random subsets of both sides, at most as large as the smaller side;
    numbers and seed are torch-fidelity's, whose values are met. subsets=None: one
    estimate over all images, which has the least variance.
    """
    reference, generated = check_features(reference, generated, least=2)
    name = source.label("KID", INCEPTION)
    sizes = len(generated), len(reference)
    if subsets is None:
        value = mmd2(generated, reference, cubic_kernel)
        return MetricValue(name, value, source, *sizes, note="unbiased, all images")
    size = min(subset_size, *sizes)
    if size < 2 or subsets < 1:
        raise UserError(f"KID of {subsets} subsets of {size}: expected 1 of 2 at least")
    rng = np.random.RandomState(_SEED)
    values = [
        mmd2(
            generated[rng.choice(sizes[0], size, replace=False)],
            reference[rng.choice(sizes[1], size, replace=False)],
            cubic_kernel,
        )
        for _ in range(subsets)
    ]
    note = f"unbiased, {subsets} subsets of {size}, seed {_SEED}"
    mean, spread = float(np.mean(values)), float(np.std(values))
    return MetricValue(name, mean, source, *sizes, spread=spread, note=note)


def cmmd(reference: np.ndarray, generated: np.ndarray, source: Source) -> MetricValue:
    """1000 MMD^2 of image embeddings [n, d] and [m, d], scaled to length 1 here."""
    reference, generated = check_features(reference, generated, least=2)
    x, y = normalise(generated), normalise(reference)
    return MetricValue(
        source.label("CMMD", CLIP, "MMD"),
        _SCALE * mmd2(x, y, gaussian_kernel(_SIGMA), biased=True),
        source,
        len(generated),
        len(reference),
        note=f"times 1000, sigma {_SIGMA:g}, biased",
    )


def mmd2(
    x: np.ndarray, y: np.ndarray, kernel: Kernel, *, biased: bool = False
) -> float:
    """MMD^2 of float64 x [n, d] and y [m, d]; unbiased values may be below 0."""
    n, m = len(x), len(y)
    cross = 2 * _sum(x, y, kernel) / (n * m)
    if biased:
        return _sum(x, x, kernel) / n**2 + _sum(y, y, kernel) / m**2 - cross
    within = (_sum(x, x, kernel) - _diagonal(x, kernel)) / (n * (n - 1))
    return within + (_sum(y, y, kernel) - _diagonal(y, kernel)) / (m * (m - 1)) - cross


def cubic_kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(x.y / d + 1)^3 of [n, d] and [m, d] -> [n, m]."""
    products = x @ y.T / x.shape[1] + 1
    return products * products * products


def gaussian_kernel(sigma: float) -> Kernel:
    """exp(-|x - y|^2 / (2 sigma^2))."""

    def kernel(x, y):
        return np.exp(-pairwise_squares(x, y) / (2 * sigma**2))

    return kernel


def pairwise_squares(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """|x - y|^2 of float64 [n, d] and [m, d] -> [n, m].

    The rounding error of a distance 0 is set to 0.
    """
    squares = np.sum(x**2, 1)[:, None] + np.sum(y**2, 1)[None]
    distances = squares - 2 * x @ y.T
    return np.where(distances > 1e-13 * squares, distances, 0.0)


def normalise(x: np.ndarray) -> np.ndarray:
    """Rows of [n, d] scaled to length 1; UserError for a row of zeros."""
    lengths = np.linalg.norm(x, axis=1, keepdims=True)
    if not lengths.all():
        raise UserError("an embedding is all zeros: it has no direction")
    return x / lengths


def _sum(x: np.ndarray, y: np.ndarray, kernel: Kernel) -> float:
    """Sum of all kernel values; 30,000 x 30,000 at once would take 7 GB."""
    return float(
        sum(
            kernel(x[i : i + _BLOCK], y[j : j + _BLOCK]).sum()
            for i in range(0, len(x), _BLOCK)
            for j in range(0, len(y), _BLOCK)
        )
    )


def _diagonal(x: np.ndarray, kernel: Kernel) -> float:
    """Sum of k(x, x) over the rows."""
    return float(sum(kernel(row[None], row[None]).item() for row in x))
