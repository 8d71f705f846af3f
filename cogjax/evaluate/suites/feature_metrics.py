"""Metrics of generated images by feature networks, against photographs.

By the features of one network: FID-k, FID-infinity, KID, precision, recall, and the
Inception Score if it has classes. By CLIP: CMMD, the two CLIP scores and R-precision.
Each is computed where there are images enough for it.
"""

import os
from collections.abc import Callable, Iterable, Sequence
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
class Pairs:
    """Batches of uint8 images [b, y, x, 3], read anew each time; a photograph each."""

    generated: Batches
    photographs: Batches
    count: int


def distances(
    pairs: Pairs, extract: Extractor, blur: tuple[str, str], progress: Progress
) -> list[MetricValue]:
    """Metrics by a network's features. blur: mode and rule of FID-k."""
    source = Source(extract.id, extract.resize)
    passes = 2 * len(RADII) + 2
    counted = _Counted(passes * pairs.count, progress)
    found = blurred_fid(
        pairs.photographs, pairs.generated, counted(extract), source, *blur
    )
    outputs = [counted(extract.outputs)(images) for images in pairs.generated]
    generated = np.concatenate([features for features, _ in outputs])
    real = _features(pairs.photographs, counted(extract))
    if pairs.count >= _LEAST_FOR_LINE:
        found.append(fid_infinity(Moments.of(real), generated, source))
    subsets = 100 if pairs.count >= _LEAST_FOR_SUBSETS else None
    found.append(kid(real, generated, source, subsets=subsets))
    if pairs.count >= _LEAST_FOR_BALLS:
        found += precision_recall(real, generated, source)
    if outputs[0][1] is not None and pairs.count >= _LEAST_FOR_SPLITS:
        logits = np.concatenate([logits for _, logits in outputs])
        found += _inception_scores(extract, logits, source)
    counted.end()
    return found


def clip_metrics(
    pairs: Pairs,
    captions: Sequence[str],
    clip: ClipExtractor,
    distractors: int,
    progress: Progress,
) -> dict[str, list[MetricValue]]:
    """{"generated", "photographs": metrics by CLIP}.

    captions: of each image. distractors: of R-precision, 0 is off.
    """
    source, counted = Source(clip.id, clip.resize), _Counted(2 * pairs.count, progress)
    embedded = {
        "generated": _features(pairs.generated, counted(clip)),
        "photographs": _features(pairs.photographs, counted(clip)),
    }
    counted.end()
    found = {"generated": [cmmd(*reversed(embedded.values()), source)]}
    for name, prefix in CLIP_SCORES.items():
        texts = clip.text([prefix + caption for caption in captions])
        for which, images in embedded.items():
            value = clip_score(images, texts, source, name)
            found.setdefault(which, []).append(value)
    if distractors:
        texts, own = normalise(clip.text(list(captions))), np.arange(pairs.count)
        for which, images in embedded.items():
            scores = normalise(images) @ texts.T  # [image, caption]
            found[which].append(
                r_precision(
                    scores,
                    own,
                    source,
                    distractors=distractors,
                    captions=list(captions),
                )
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


def _features(batches: Batches, extract: Callable) -> np.ndarray:
    return np.concatenate([extract(images) for images in batches])


class _Counted:
    """Reports how many images the networks that it wraps have been given."""

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
