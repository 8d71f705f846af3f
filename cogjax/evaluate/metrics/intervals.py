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


def crossed_interval(
    values: np.ndarray, draws: int = 2000
) -> tuple[float, float, float]:
    """(mean, 95 % interval) of answers [raters, prompts], NaN where there is none.

    It holds for other raters and other prompts like these: the deviation is that of a
    bootstrap over both, the factor Student's t with Satterthwaite's degrees of freedom,
    since quantiles of a bootstrap over few raters are too near. One row or column alone
    is taken as fixed. NaN throughout for no answers, an interval of NaN for a single
    one.
    """
    from scipy.stats import t

    there = ~np.isnan(values)
    if not there.any():
        return float("nan"), float("nan"), float("nan")
    values = values[there.any(1)][:, there.any(0)]
    there, mean = ~np.isnan(values), float(np.nanmean(values))
    rng = np.random.default_rng(0)
    weights = [_drawn(size, draws, rng) for size in values.shape]
    sums, counts = (
        np.sum(weights[0] @ x * weights[1], axis=1)
        for x in (np.where(there, values, 0.0), there.astype(float))
    )
    spread = np.std(sums[counts > 0] / counts[counts > 0])
    half = float(spread * t.ppf(0.975, _freedom(values)))
    return mean, mean - half, mean + half


def _freedom(values: np.ndarray) -> float:
    """Satterthwaite's degrees of freedom of the mean over rows and columns."""
    parts = []
    for axis, size in enumerate(values.shape):
        if size > 1:
            means = np.nanmean(values, axis=1 - axis)
            parts.append((np.var(means, ddof=1) / size, size - 1))
    total = sum(part for part, _ in parts)
    if not total:
        return min((df for _, df in parts), default=float("nan"))
    return total**2 / sum(part**2 / df for part, df in parts)


def _drawn(size: int, draws: int, rng: np.random.Generator) -> np.ndarray:
    """How often a bootstrap takes each of so many: [draws, size]."""
    if size == 1:
        return np.ones((draws, 1))
    return rng.multinomial(size, np.full(size, 1 / size), draws).astype(float)
