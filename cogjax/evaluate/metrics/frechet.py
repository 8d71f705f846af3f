"""Frechet distance of Gaussians: FID (Heusel et al. 2017, arXiv 1706.08500).

    d^2 = |mu1 - mu2|^2 + Tr(S1) + Tr(S2) - 2 Tr((S1 S2)^1/2)

The last trace is that of (S1^1/2 S2 S1^1/2)^1/2, two symmetric eigenproblems. The
published code takes the root of S1 S2, which is not symmetric: several times as slow,
and complex where S is singular. All in float64 on the host, since TPUs have none and
float32 errs in the third digit at 2048 features; a batch there is far cheaper than its
features.
"""

import io
import os
import zipfile
import zlib
from dataclasses import dataclass, replace

import numpy as np

from cogjax.errors import UserError
from cogjax.evaluate.metrics.result import (
    INCEPTION,
    MetricValue,
    Source,
    check_features,
)
from cogjax.files import write_atomic


@dataclass(frozen=True)
class Moments:
    """Count, mean [d] and scatter [d, d], sum of (x - mean)(x - mean)^T, in float64.

    Streams: `moments = moments.add(batch)`; over shards or processes: `a.merge(b)`.
    Either gives what one pass over all features gives, to rounding.
    """

    count: int
    mean: np.ndarray
    scatter: np.ndarray

    @classmethod
    def empty(cls, width: int) -> "Moments":
        """Of no features of `width` numbers."""
        return cls(0, np.zeros(width), np.zeros((width, width)))

    @classmethod
    def of(cls, features: np.ndarray) -> "Moments":
        """Of features [n, d], n >= 1."""
        (x,) = check_features(features)
        mean = x.mean(axis=0)
        centred = x - mean
        return cls(len(x), mean, centred.T @ centred)

    def add(self, features: np.ndarray) -> "Moments":
        """With the features [n, d] of another batch; nothing changes for n = 0."""
        return self.merge(Moments.of(features)) if len(features) else self

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
        if count == 0:
            return self
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

    def save(self, path: str | os.PathLike) -> None:
        """Writes an npz of `count`, `mu` and `sigma`, the published code's names."""
        data = io.BytesIO()
        np.savez(data, count=self.count, mu=self.mean, sigma=self.covariance)
        write_atomic(path, data.getvalue())

    @classmethod
    def load(cls, path: str | os.PathLike, count: int | None = None) -> "Moments":
        """Reads what `save` wrote, or published statistics of `mu` and `sigma`.

        The published ones do not say of how many images they are: give `count`.
        """
        stored = _read_arrays(path)
        mean, covariance = stored.get("mu"), stored.get("sigma")
        if mean is None or np.shape(covariance) != 2 * mean.shape or mean.ndim != 1:
            raise UserError(f"{path} must hold mu [d] and sigma [d, d]")
        count = stored.get("count") if count is None else count
        if count is None:
            raise UserError(f"{path} does not say of how many images it is: give count")
        scatter = np.asarray(covariance, np.float64) * (int(count) - 1)
        return cls(int(count), np.asarray(mean, np.float64), scatter)


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
    *,
    points: int = 15,
    smallest: int | None = None,
    seed: int = 0,
) -> MetricValue:
    """FID of infinitely many generated images, extrapolated along 1 / n.

    A line through FIDs of random subsets of `features` [n, d] (Chong and Forsyth 2020,
    arXiv 1911.07023); the bias that the reference's own number gives stays.

    Args:
      points: subsets, of evenly spaced sizes from `smallest` (a tenth of n) to n.
    """
    (features,) = check_features(features, least=2)
    smallest = max(len(features) // 10, 2) if smallest is None else smallest
    if not (points >= 2 and 2 <= smallest < len(features)):
        raise UserError(
            f"FID-infinity needs 2 points and 2 <= smallest < n, got points {points}, "
            f"smallest {smallest}, n {len(features)}"
        )
    rng = np.random.default_rng(seed)
    sizes = np.linspace(smallest, len(features), points).astype(int)
    picks = [rng.choice(len(features), size, replace=False) for size in sizes]
    distances = [_distance(reference, Moments.of(features[pick])) for pick in picks]
    slope, intercept = np.polyfit(1 / sizes, distances, 1)
    metric = fid(reference, Moments.of(features), source)
    note = (
        f"line in 1/n through {points} subsets of {smallest} and more, seed {seed}, "
        f"slope {slope:.4g}; {metric.value:.5g} at n"
    )
    name = metric.name.replace("FID", "FID-inf", 1).replace("FD-", "FD-inf-", 1)
    return replace(metric, name=name, value=float(intercept), note=note)


def _read_arrays(path: str | os.PathLike) -> dict[str, np.ndarray]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith(".npy")]
            return {
                name.removesuffix(".npy"): np.lib.format.read_array(
                    io.BytesIO(archive.read(name)), allow_pickle=False
                )
                for name in names
            }
    except (OSError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(
            f"cannot read {path}: an npz file of arrays expected"
        ) from error


def _distance(a: Moments, b: Moments) -> float:
    return frechet_distance(a.mean, a.covariance, b.mean, b.covariance)


def _bias_note(reference: Moments, generated: Moments) -> str:
    """What makes the value incomparable: the bias falls as 1 / n."""
    notes = []
    if reference.count != generated.count:
        notes.append("unequal n")
    if min(reference.count, generated.count) <= len(reference.mean):
        notes.append(f"n below the {len(reference.mean)} features: strong bias")
    return ", ".join(notes)
