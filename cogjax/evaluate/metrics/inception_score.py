"""Inception Score (Salimans et al. 2016, arXiv 1606.03498), in its published variants.

    exp(mean over x of KL(p(y|x) || p(y))), p(y) the mean over the split

| variant | logits | splits |
|---|---|---|
| dmgan | of 1008 classes, without bias; DALL-E's values | 10 in order |
| guided | as dmgan; guided-diffusion | of 5000 in order, the last may be short |
| torch-fidelity | as dmgan | 10, shuffled with seed 2020 |
| torchvision | with bias, torchvision's 1000 classes; CogView's | 1 |

CogView argues against the score: DM-GAN had the best one and the worst human rating.
"""

from dataclasses import dataclass

import numpy as np

from cogjax.errors import UserError
from cogjax.evaluate.metrics.result import (
    INCEPTION,
    TORCHVISION,
    MetricValue,
    Source,
    check_features,
)


@dataclass(frozen=True)
class Variant:
    """How logits are made and how images are split: `splits` or `split_size`."""

    bias: bool
    splits: int | None = None
    split_size: int | None = None
    shuffle_seed: int | None = None
    # How the id of the extractor that the variant was published with starts.
    official: str = INCEPTION


VARIANTS = {
    "dmgan": Variant(bias=False, splits=10),
    "guided": Variant(bias=False, split_size=5000),
    "torch-fidelity": Variant(bias=False, splits=10, shuffle_seed=2020),
    "torchvision": Variant(bias=True, splits=1, official=TORCHVISION),
}


def variants(source: Source) -> list[str]:
    """Names of the variants that an extractor's logits are for."""
    own = source.extractor.startswith(TORCHVISION)
    return [name for name, v in VARIANTS.items() if (v.official == TORCHVISION) == own]


def inception_score(logits: np.ndarray, source: Source, variant: str) -> MetricValue:
    """Mean and standard deviation over the splits, named "IS[dmgan]".

    logits: [n, classes], in the order in which the images were generated; with the last
      layer's bias or not, as the variant has it.
    """
    rule = VARIANTS[variant]
    scores = split_scores(logits, rule)
    name = f"{source.label('IS', rule.official)}[{variant}]"
    return MetricValue(
        name,
        float(np.mean(scores)),
        source,
        len(logits),
        spread=float(np.std(scores)),
        note=f"{len(scores)} splits, logits {'with' if rule.bias else 'without'} bias",
    )


def split_scores(logits: np.ndarray, rule: Variant) -> np.ndarray:
    """Score of each split, in [1, classes]: logits [n, classes] -> float64 [splits]."""
    (logits,) = check_features(logits)
    if rule.shuffle_seed is not None:
        # The legacy generator: the published order depends on it.
        rng = np.random.RandomState(rule.shuffle_seed)
        logits = logits[rng.permutation(len(logits))]
    if rule.split_size is not None:
        cuts = [*range(0, len(logits), rule.split_size), len(logits)]
    else:
        cuts = [i * len(logits) // rule.splits for i in range(rule.splits + 1)]
    if 0 in np.diff(cuts):
        raise UserError(
            f"{len(logits)} images cannot be split into {rule.splits}: give more"
        )
    return np.array([_score(logits[a:b]) for a, b in zip(cuts, cuts[1:], strict=False)])


def _score(logits: np.ndarray) -> float:
    """exp of the mutual information of images and classes in one split."""
    logits = logits - logits.max(axis=1, keepdims=True)
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    p = np.exp(log_p)
    mean = p.mean(axis=0)
    # A class that underflows to 0 in every image has p log p = 0, not NaN.
    log_mean = np.log(mean, where=mean > 0, out=np.zeros_like(mean))
    return float(np.exp(np.mean(np.sum(p * (log_p - log_mean), axis=1))))
