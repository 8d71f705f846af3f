"""Does an image fit its caption? CLIP scores, CapLoss and R-precision.

In all three a scorer gives each pair of image and caption a number. CLIP scores and
CapLoss (CogView, section 3.2) average the true pairs, and compare only with values of
the same scorer; R-precision asks whether the true caption beats others, and is
absolute.
"""

import numpy as np

from cogjax.errors import UserError
from cogjax.evaluate.metrics.intervals import wilson
from cogjax.evaluate.metrics.mmd import normalise
from cogjax.evaluate.metrics.result import MetricValue, Source, check_features

# "clip_cosine": mean cosine (T2I-CompBench). "clipscore_2.5": mean of 2.5 max(cosine,
# 0) (Hessel et al. 2021, arXiv 2104.08718). And how their captions begin.
CLIP_SCORES = {"clip_cosine": "", "clipscore_2.5": "A photo depicts "}


def clip_score(
    images: np.ndarray, texts: np.ndarray, source: Source, variant: str
) -> MetricValue:
    """Mean score of pairs of embeddings [n, d], whose lengths do not matter.

    variant: of `CLIP_SCORES`.
    """
    images, texts = check_features(images, texts)
    check_pairs(len(images), len(texts))
    scores = np.sum(normalise(images) * normalise(texts), axis=1)
    if variant == "clipscore_2.5":
        scores = 2.5 * np.clip(scores, 0, None)
    return MetricValue(
        variant, float(scores.mean()), source, len(scores), spread=float(scores.std())
    )


def mean_caption_loss(losses: np.ndarray, source: Source) -> MetricValue:
    """Mean of caption losses [n], each in nats a text token without the end token."""
    return MetricValue(
        "CapLoss[without_end]",
        float(np.mean(losses)),
        source,
        len(losses),
        spread=float(np.std(losses)),
        note="nats a text token, mean a caption",
    )


def r_precision(
    scores: np.ndarray,
    truth: np.ndarray,
    source: Source,
    *,
    distractors: int,
    captions: list[str] | None = None,
    seed: int = 0,
) -> MetricValue:
    """How often the true caption scores above others (AttnGAN, arXiv 1711.10485).

    Args:
      scores: [n, m], higher is better, of each image with each caption.
      truth: int [n], which caption is each image's own.
      distractors: other captions that it must beat, picked for each image by `seed`;
        AttnGAN has 99.
      captions: the m texts; one that reads as the true one is never a distractor.

    Returns:
      The share, which the note sets beside chance and a Wilson interval. A tie counts
      as the share of it that the true caption has, so that a constant scorer is at
      chance.
    """
    scores, truth = np.asarray(scores, np.float64), np.asarray(truth)
    if scores.ndim != 2 or truth.shape != scores.shape[:1] or not len(truth):
        raise UserError(
            f"R-precision needs scores [n, m] and truth [n], got {scores.shape} and "
            f"{truth.shape}"
        )
    if np.isnan(scores).any() or truth.min() < 0 or truth.max() >= scores.shape[1]:
        raise UserError("R-precision needs scores without NaN and truth in 0..m-1")
    texts = np.arange(scores.shape[1])
    if captions is not None:
        if len(captions) != len(texts):
            raise UserError(f"{len(captions)} captions for scores of {len(texts)}")
        texts = np.unique(captions, return_inverse=True)[1]
    rng = np.random.default_rng(seed)
    hits, chances = [], []
    for row, own in zip(scores, truth, strict=True):
        others = _distractors(texts, own, distractors, rng)
        ties = np.sum(row[others] == row[own])
        beaten = not np.any(row[others] > row[own])
        hits.append(beaten / (1 + ties))
        chances.append(1 / (1 + len(others)))
    low, high = wilson(float(np.sum(hits)), len(hits))
    note = f"chance {np.mean(chances):.4g}, 95 % {low:.4g} to {high:.4g}, seed {seed}"
    name = f"R-precision[{distractors} distractors]"
    return MetricValue(name, float(np.mean(hits)), source, len(hits), note=note)


def check_pairs(left: int, right: int) -> None:
    """UserError unless there are as many of both."""
    if left != right:
        raise UserError(f"pairs are needed: got {left} images and {right} captions")


def _distractors(texts: np.ndarray, own: int, count: int, rng) -> np.ndarray:
    """Places of other captions than the true one."""
    others = np.flatnonzero(texts != texts[own])
    if not 1 <= count <= len(others):
        raise UserError(
            f"R-precision with {count} distractors: only {len(others)} other captions "
            f"are there; give more captions or fewer distractors"
        )
    return rng.choice(others, count, replace=False)
