"""Does the right one come first? Retrieval by the scores of all pairs.

A query may have several right answers, such as two images with one caption: one of them
among the first k is enough. A tie counts as if the wrong answers came first, so that a
scorer that says the same of everything finds nothing.
"""

import math

import numpy as np


def found(scores: np.ndarray, right: np.ndarray, k: int) -> np.ndarray:
    """Whether a right answer is among the first k: bool [n].

    scores: [n, m], of each query with each answer, higher is better. right: bool
    [n, m], at least one a row.
    """
    best = np.max(np.where(right, scores, -np.inf), axis=1)  # [n]
    before = np.sum(~right & (scores >= best[:, None]), axis=1)
    # A score that is no number is never the right one's.
    return (before < k) & np.isfinite(best)


def chance(right: np.ndarray, k: int) -> float:
    """The mean of `found` for answers in random order."""
    count = right.shape[1]
    misses = [
        math.comb(count - int(own), k) / math.comb(count, min(k, count))
        for own in right.sum(1)
    ]
    return 1 - float(np.mean(misses))
