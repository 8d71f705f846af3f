"""Does an image fit its caption? CLIP scores, CapLoss and R-precision.

The three are of one shape: a scorer gives each pair of image and caption a number.
CLIP scores and CapLoss (CogView, section 3.2) average the true pairs and mean something
beside the same scorer's other metrics only; R-precision asks whether the true caption
beats others, and is absolute.
"""

import numpy as np

from cogjax.errors import UserError
from cogjax.evaluate.metrics.intervals import wilson
from cogjax.evaluate.metrics.mmd import normalise
from cogjax.evaluate.metrics.result import MetricValue, Source, check_features

# "clip_cosine": mean cosine (T2I-CompBench). "clipscore_2.5": mean of 2.5 max(cosine,
# 0) (Hessel et al. 2021, arXiv 2104.08718, whose captions begin "A photo depicts").
CLIP_SCORES = ("clip_cosine", "clipscore_2.5")
# Whether the end token's term is in the mean of CapLoss.
CAPLOSSES = ("with_end", "without_end")


def clip_score(
    images: np.ndarray, texts: np.ndarray, source: Source, variant: str = "clip_cosine"
) -> MetricValue:
    """Mean score of pairs of embeddings [n, d], of any length; of `CLIP_SCORES`."""
    if variant not in CLIP_SCORES:
        raise UserError(f"CLIP score {variant!r}: expected {' or '.join(CLIP_SCORES)}")
    images, texts = check_features(images, texts)
    check_pairs(len(images), len(texts))
    scores = np.sum(normalise(images) * normalise(texts), axis=1)
    if variant == "clipscore_2.5":
        scores = 2.5 * np.clip(scores, 0, None)
    return MetricValue(
        variant, float(scores.mean()), source, len(scores), spread=float(scores.std())
    )


def caption_losses(
    log_probs: np.ndarray, lengths: np.ndarray, variant: str = "with_end"
) -> np.ndarray:
    """CapLoss of each caption, in nats a token: -1/|t| sum of log p(t_i | x, t_<i).

    Args:
      log_probs: [n, t], natural logarithms of the probabilities of each caption's
        tokens and then of its end token, from a softmax over text tokens only; values
        after those are ignored.
      lengths: int [n], text tokens without the end token.
      variant: "with_end" is the mean of lengths + 1 terms (the paper's formula sums as
        many and divides by one fewer), "without_end" that of the text tokens only.

    Returns:
      float64 [n], for `mean_caption_loss`, or negated as scores for `r_precision`.
    """
    if variant not in CAPLOSSES:
        raise UserError(f"CapLoss {variant!r}: expected {' or '.join(CAPLOSSES)}")
    log_probs = np.asarray(log_probs, np.float64)
    counts = np.asarray(lengths) + (variant == "with_end")
    if log_probs.ndim != 2 or counts.shape != log_probs.shape[:1]:
        raise UserError(
            f"CapLoss needs log-probabilities [n, t] and lengths [n], got "
            f"{log_probs.shape} and {counts.shape}"
        )
    if not counts.size or counts.min() < 1 or counts.max() > log_probs.shape[1]:
        raise UserError(
            f"CapLoss needs captions of 1 to {log_probs.shape[1]} terms each, with the "
            f"end token where it counts"
        )
    counted = np.arange(log_probs.shape[1]) < counts[:, None]
    # Logits in float32 or less may come out a little above.
    if not np.all(log_probs[counted] <= 1e-3):
        raise UserError("log-probabilities must be at most 0, and no NaN")
    return -np.sum(log_probs, axis=1, where=counted) / counts


def mean_caption_loss(
    losses: np.ndarray, source: Source, variant: str = "with_end"
) -> MetricValue:
    """Mean over captions [n] of `caption_losses`, named "CapLoss[with_end]"."""
    return MetricValue(
        f"CapLoss[{variant}]",
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
    distractors: int | None = None,
    captions: list[str] | None = None,
    seed: int = 0,
) -> MetricValue:
    """How often the true caption scores above others (AttnGAN, arXiv 1711.10485).

    Args:
      scores: [n, m], higher is better, of each image with each caption.
      truth: int [n], which caption is each image's own.
      distractors: other captions that it must beat, drawn for each image by `seed`;
        None: all. AttnGAN has 99.
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
    shown = "all" if distractors is None else distractors
    note = f"chance {np.mean(chances):.4g}, 95 % {low:.4g} to {high:.4g}, seed {seed}"
    name = f"R-precision[{shown} distractors]"
    return MetricValue(name, float(np.mean(hits)), source, len(hits), note=note)


def check_pairs(left: int, right: int) -> None:
    """UserError unless there are as many of both."""
    if left != right:
        raise UserError(f"pairs are needed: got {left} images and {right} captions")


def _distractors(texts: np.ndarray, own: int, count: int | None, rng) -> np.ndarray:
    """Places of other captions than the true one."""
    others = np.flatnonzero(texts != texts[own])
    if count is None and len(others):
        return others
    if not 1 <= (count or 0) <= len(others):
        raise UserError(
            f"R-precision with {count} distractors: only {len(others)} other captions "
            f"are there; give more captions or fewer distractors"
        )
    return rng.choice(others, count, replace=False)
