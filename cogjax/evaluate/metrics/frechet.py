"""Frechet distance of Gaussians: FID (Heusel et al. 2017, arXiv 1706.08500).

    d^2 = |mu1 - mu2|^2 + Tr(S1) + Tr(S2) - 2 Tr((S1 S2)^1/2)

The last trace is that of (S1^1/2 S2 S1^1/2)^1/2, two symmetric eigenproblems. The
published code takes the root of S1 S2, which is not symmetric: several times as slow,
and complex where S is singular. All in float64 on the host, since TPUs have none and
float32 errs in the third digit at 2048 features; a batch there is far cheaper than its
features.
"""

from dataclasses import dataclass, replace

import numpy as np

from cogjax.errors import UserError
from cogjax.evaluate.metrics.result import (
    INCEPTION,
    MetricValue,
    Source,
    check_features,
)

_SUBSETS = 15  # of FID-infinity's line


@dataclass(frozen=True)
class Moments:
    """Count, mean [d] and scatter [d, d], sum of (x - mean)(x - mean)^T, in float64.

    Moments of batches, shards or processes merge in any order: `a.merge(b)` is what
    one pass over all features gives, to rounding.
    """

    count: int
    mean: np.ndarray
    scatter: np.ndarray

    @classmethod
    def of(cls, features: np.ndarray) -> "Moments":
        """Moments of features [n, d], n >= 1."""
        (x,) = check_features(features)
        mean = x.mean(axis=0)
        centred = x - mean
        return cls(len(x), mean, centred.T @ centred)

    def merge(self, other: "Moments") -> "Moments":
        """Moments of both sets together (Chan et al. 1979): no sum of squares is ever
        formed, so nothing cancels where means are large.
        """
        if self.mean.shape != other.mean.shape:
            raise UserError(
                f"moments of {len(self.mean)} and {len(other.mean)} features cannot be "
                f"merged: they come from two extractors"
            )
        count = self.count + other.count
        step = other.mean - self.mean
        between = np.outer(step, step) * (self.count * other.count / count)
        return Moments(
            count,
            self.mean + step * (other.count / count),
            self.scatter + other.scatter + between,
        )

    @property
    def covariance(self) -> np.ndarray:
        """Unbiased, [d, d]; needs two features."""
        if self.count < 2:
            raise UserError(
                f"a covariance needs at least 2 images, got {self.count}: "
                f"give more images a side"
            )
        return self.scatter / (self.count - 1)


def frechet_distance(
    mean1: np.ndarray,
    covariance1: np.ndarray,
    mean2: np.ndarray,
    covariance2: np.ndarray,
) -> float:
    """Squared Frechet distance of two Gaussians, means [d], covariances [d, d].

    At least 0; covariances may be singular.
    """
    values, vectors = np.linalg.eigh(covariance1)
    root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    inner = root @ covariance2 @ root
    # Rounding leaves the product a little askew, and zero eigenvalues below zero.
    products = np.linalg.eigvalsh((inner + inner.T) / 2)
    cross = np.sum(np.sqrt(np.clip(products, 0, None)))
    step = mean1 - mean2
    traces = np.trace(covariance1) + np.trace(covariance2)
    return float(max(step @ step + traces - 2 * cross, 0.0))


def fid(reference: Moments, generated: Moments, source: Source) -> MetricValue:
    """FID, or "FD-extractor" where the features are not of the official Inception.

    source: of the generated images. UserError for fewer than 2 images a side.
    """
    if reference.mean.shape != generated.mean.shape:
        raise UserError(
            f"features of two extractors cannot be compared: {len(reference.mean)} and "
            f"{len(generated.mean)} numbers"
        )
    return MetricValue(
        source.label("FID", INCEPTION, "FD"),
        _distance(reference, generated),
        source,
        generated.count,
        reference.count,
        note=_bias_note(reference, generated),
    )


def fid_infinity(
    reference: Moments,
    features: np.ndarray,
    source: Source,
) -> MetricValue:
    """FID of infinitely many generated images, extrapolated along 1 / n.

    A line through FIDs of random subsets of `features` [n, d] (Chong and Forsyth 2020,
    arXiv 1911.07023), of evenly spaced sizes from n / 10 to n. The bias that the
    reference's own number gives stays. UserError for fewer than 3 images.
    """
    (features,) = check_features(features, least=3)
    smallest = max(len(features) // 10, 2)
    rng = np.random.default_rng(0)
    sizes = np.linspace(smallest, len(features), _SUBSETS).astype(int)
    picks = [rng.choice(len(features), size, replace=False) for size in sizes]
    distances = [_distance(reference, Moments.of(features[pick])) for pick in picks]
    slope, intercept = np.polyfit(1 / sizes, distances, 1)
    metric = fid(reference, Moments.of(features), source)
    note = (
        f"line in 1/n through {_SUBSETS} subsets of {smallest} and more, "
        f"slope {slope:.4g}; {metric.value:.5g} at n"
    )
    name = metric.name.replace("FID", "FID-inf", 1).replace("FD-", "FD-inf-", 1)
    return replace(metric, name=name, value=float(intercept), note=note)


def _distance(a: Moments, b: Moments) -> float:
    return frechet_distance(a.mean, a.covariance, b.mean, b.covariance)


def _bias_note(reference: Moments, generated: Moments) -> str:
    """The reasons why a value does not compare: its bias falls as 1 / n."""
    notes = []
    if reference.count != generated.count:
        notes.append("unequal n")
    if min(reference.count, generated.count) <= len(reference.mean):
        notes.append(f"n below the {len(reference.mean)} features: strong bias")
    return ", ".join(notes)
