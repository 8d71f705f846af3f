"""Metrics of generated images by feature networks, alone and against others.

By the features of one network: FID-k, FID-infinity, KID, precision, recall, and the
Inception Score if it has classes. By CLIP: CMMD, the two CLIP scores and R-precision.
Each is computed where there are images enough for it; `too_few` says which are not.
"""

import functools
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from cogjax.evaluate.metrics.alignment import CLIP_SCORES, clip_score, r_precision
from cogjax.evaluate.metrics.blur import RADII, blurred_fid
from cogjax.evaluate.metrics.frechet import Moments, fid_infinity
from cogjax.evaluate.metrics.inception_score import (
    VARIANTS,
    inception_score,
    variants,
)
from cogjax.evaluate.metrics.mmd import cmmd, kid, normalise
from cogjax.evaluate.metrics.precision_recall import precision_recall
from cogjax.evaluate.metrics.result import MetricValue, Source
from cogjax.evaluate.suites.run import Progress

Batches = Iterable[np.ndarray]
# Images that FID-infinity's line, precision and recall, and ten splits need.
_LEAST_FOR_LINE, _LEAST_FOR_BALLS, _LEAST_FOR_SPLITS = 3, 4, 10
# With fewer images a subset of KID would be all of them.
_LEAST_FOR_SUBSETS = 1001


class Extractor(Protocol):
    """A feature network, as `features.make_extractor` makes it."""

    id: str
    resize: str

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """uint8 [n, y, x, 3] of any size -> features [n, d]."""

    def outputs(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Features, and logits [n, classes] or None."""

    def without_bias(self, logits: np.ndarray) -> np.ndarray:
        """Logits less the last layer's bias."""


class ClipExtractor(Extractor, Protocol):
    """CLIP, whose features of images and captions lie in one space."""

    def text(self, captions: list[str]) -> np.ndarray:
        """Embeddings [n, d] of captions."""


def read_extractor(
    name: str,
    weights: str | os.PathLike | None,
    merges: str | os.PathLike | None = None,
) -> Extractor:
    """The feature network of that name, its weights from a file or a package.

    merges: CLIP's file of byte pairs, for captions.
    """
    from cogjax.evaluate.judges.features import make_extractor

    return make_extractor(name, weights=weights, merges=merges)


@dataclass(frozen=True)
class Sides:
    """Batches of uint8 images [b, y, x, 3], read anew each time, and how many.

    reference: what the generated ones are compared with.
    """

    generated: Batches
    reference: Batches
    counts: tuple[int, int]


def too_few(counts: Sequence[int]) -> dict[str, int]:
    """Metrics that `distances` leaves out, each with the images a side that it needs.

    counts: images of each side.
    """
    least = {"FID-inf": _LEAST_FOR_LINE, "precision, recall": _LEAST_FOR_BALLS}
    found = {name: n for name, n in least.items() if min(counts) < n}
    return found | ({"IS": _LEAST_FOR_SPLITS} if counts[0] < _LEAST_FOR_SPLITS else {})


def distances(
    sides: Sides, extract: Extractor, blur: tuple[str, str], progress: Progress
) -> list[MetricValue]:
    """Metrics by a network's features, of two images a side at least.

    blur: mode and rule of FID-k.
    """
    source, left_out = Source(extract.id, extract.resize), too_few(sides.counts)
    counted = Counted((len(RADII) + 1) * sum(sides.counts), progress)
    found = blurred_fid(
        sides.reference, sides.generated, counted(extract), source, *blur
    )
    generated, logits = _outputs(sides.generated, counted(extract.outputs))
    real = _features(sides.reference, counted(extract))
    if "FID-inf" not in left_out:
        found.append(fid_infinity(Moments.of(real), generated, source))
    subsets = 100 if min(sides.counts) >= _LEAST_FOR_SUBSETS else None
    found.append(kid(real, generated, source, subsets=subsets))
    if "precision, recall" not in left_out:
        found += precision_recall(real, generated, source)
    if logits is not None and "IS" not in left_out:
        found += _inception_scores(extract, logits, source)
    counted.end()
    return found


def inception_scores(
    images: Batches, count: int, extract: Extractor, progress: Progress
) -> list[MetricValue]:
    """The Inception Score of ten images or more; nothing of a network without classes.

    count: of the images.
    """
    counted = Counted(count, progress)
    _, logits = _outputs(images, counted(extract.outputs))
    counted.end()
    if logits is None:
        return []
    return _inception_scores(extract, logits, Source(extract.id, extract.resize))


def clip_metrics(
    batches: Mapping[str, Batches],
    captions: Mapping[str, Sequence[str]],
    clip: ClipExtractor,
    distractors: int,
    counted: "Counted",
) -> dict[str, list[MetricValue]]:
    """{side: metrics by CLIP}; CMMD is of the first side against the second.

    batches: images of one or two sides. captions: of each image of a side, which is
    compared with them; a side may be without. distractors: of R-precision, 0 is off.
    counted: of as many images as both sides have.
    """
    source = Source(clip.id, clip.resize)
    see = counted(clip)
    embedded = {side: _features(images, see) for side, images in batches.items()}
    counted.end()
    found: dict[str, list[MetricValue]] = {side: [] for side in batches}
    if len(embedded) == 2:
        first, second = embedded
        found[first].append(cmmd(embedded[second], embedded[first], source))
    read = functools.cache(lambda texts: clip.text(list(texts)))
    for side, own in captions.items():
        for name, prefix in CLIP_SCORES.items():
            texts = read(tuple(prefix + caption for caption in own))
            found[side].append(clip_score(embedded[side], texts, source, name))
        if distractors:
            scores = normalise(embedded[side]) @ normalise(read(tuple(own))).T
            truth, rivals = np.arange(len(own)), {"distractors": distractors}
            found[side].append(
                r_precision(scores, truth, source, **rivals, captions=list(own))
            )
    return found


def _inception_scores(
    extract: Extractor, logits: np.ndarray, source: Source
) -> list[MetricValue]:
    bare = extract.without_bias(logits)
    return [
        inception_score(logits if VARIANTS[name].bias else bare, source, name)
        for name in variants(source)
    ]


def _outputs(
    batches: Batches, outputs: Callable
) -> tuple[np.ndarray, np.ndarray | None]:
    """Features and logits of all images."""
    features, logits = zip(*map(outputs, batches), strict=True)
    whole = None if logits[0] is None else np.concatenate(logits)
    return np.concatenate(features), whole


def _features(batches: Batches, extract: Callable) -> np.ndarray:
    return np.concatenate([extract(images) for images in batches])


class Counted:
    """Reports how many images, of `total`, the networks that it wraps have been given.

    progress: called as progress(done, total, label).
    """

    def __init__(self, total: int, progress: Progress):
        self.total, self.progress, self.done = total, progress, 0

    def __call__(self, extract: Callable) -> Callable:
        def counting(images: np.ndarray):
            self.progress(min(self.done, self.total), self.total, "features")
            self.done += len(images)
            return extract(images)

        return counting

    def end(self) -> None:
        """All images were seen, whatever the blur left out."""
        self.progress(self.total, self.total, "features")
