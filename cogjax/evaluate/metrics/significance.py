"""Is a difference more than chance? Tests over prompts, corrected for their number."""

import itertools
from collections.abc import Sequence

import numpy as np

_EXACT, _DRAWS = 12, 20_000


def sign_flip_test(differences: np.ndarray) -> float:
    """Two-sided p of differences [prompts] being symmetric about 0.

    Each sign is as likely as the other if two models are equal. All signs are tried up
    to 12 prompts, else 20,000 at random by a fixed seed. 1 for no prompts.
    """
    found = differences[differences != 0]
    if not len(found):
        return 1.0
    if len(found) <= _EXACT:
        signs = np.array(list(itertools.product((-1, 1), repeat=len(found))))
        sums = np.abs(signs @ found)
        return float(np.mean(sums >= abs(found.sum()) * (1 - 1e-12)))
    signs = np.random.default_rng(0).choice((-1.0, 1.0), (_DRAWS, len(found)))
    as_far = np.sum(np.abs(signs @ found) >= abs(found.sum()) * (1 - 1e-12))
    return float((1 + as_far) / (1 + _DRAWS))


def sign_test(wins: int, losses: int) -> float:
    """Exact two-sided p of wins and losses being as likely; ties count as neither."""
    from scipy.stats import binomtest

    return float(binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0


def holm(values: Sequence[float]) -> list[float]:
    """p-values of several tests, corrected so that none is small by their number.

    Holm 1979: the chance of any false one is held, without assumptions.
    """
    order = np.argsort(values, kind="stable")
    corrected, highest = [0.0] * len(values), 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(values) - rank) * values[index]))
        corrected[index] = highest
    return corrected
