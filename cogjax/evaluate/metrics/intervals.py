"""Confidence intervals of shares, and of means over seeds and prompts."""

import numpy as np


def wilson(hits: float, total: int) -> tuple[float, float]:
    """Wilson 95 % interval of a share; (0, 1) for no trials.

    hits: 0 to total; a fraction where ties were shared out.
    """
    z = 1.96
    if total == 0:
        return 0.0, 1.0
    share = hits / total
    centre = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z * np.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    half /= 1 + z * z / total
    return float(max(centre - half, 0.0)), float(min(centre + half, 1.0))


def seeds_interval(values: np.ndarray, draws: int = 4000) -> tuple[float, float, float]:
    """(mean, 95 % interval) of [seeds, prompts]: a bootstrap over both."""
    rng = np.random.default_rng(0)
    seeds, prompts = values.shape
    means = [
        values[rng.integers(seeds, size=seeds)][:, rng.integers(prompts, size=prompts)]
        for _ in range(draws)
    ]
    low, high = np.quantile([each.mean() for each in means], (0.025, 0.975))
    return float(values.mean()), float(low), float(high)


def ratio_interval(
    hits: np.ndarray, reference: np.ndarray, draws: int = 2000
) -> tuple[float, tuple[float, float]]:
    """How much of the reference is reached: sum(hits) / sum(reference), and 95 %.

    hits, reference: 0 or 1, [n], of the same examples in the same order, which the
    bootstrap draws in pairs. NaN and (NaN, NaN) where the reference has no hits.
    """
    if not reference.sum():
        return float("nan"), (float("nan"), float("nan"))
    # Pairs are alike but for their two values: 00, 01, 10, 11.
    counts = np.bincount((2 * hits + reference).astype(int), minlength=4)
    drawn = np.random.default_rng(0).multinomial(len(hits), counts / len(hits), draws)
    above, below = drawn[:, 2] + drawn[:, 3], drawn[:, 1] + drawn[:, 3]
    ratios = above[below > 0] / below[below > 0]
    low, high = np.quantile(ratios, (0.025, 0.975))
    return float(hits.sum() / reference.sum()), (float(low), float(high))
