"""Do raters agree? Krippendorff's alpha, which takes missing answers.

Krippendorff 2011, Computing Krippendorff's Alpha-Reliability: 1 is perfect, 0 chance,
below 0 is systematic disagreement.
"""

import numpy as np


def krippendorff_alpha(values: np.ndarray, interval: bool) -> float:
    """Alpha of answers [raters, units], NaN where there is none.

    interval: answers are points, far ones worse than near ones; else names. NaN if no
    unit has two answers, or if all answers are equal.
    """
    levels = np.unique(values[~np.isnan(values)])
    counts = (values[..., None] == levels).sum(0)  # [units, levels]
    counts = counts[counts.sum(1) > 1]
    total, each = counts.sum(), counts.sum(0)
    apart = np.not_equal.outer(levels, levels).astype(float)
    if interval:
        apart = np.subtract.outer(levels, levels) ** 2
    expected = each @ apart @ each
    if not expected:
        return float("nan")
    within = np.einsum("ua,ab,ub->u", counts, apart, counts) / (counts.sum(1) - 1)
    return float(1 - (total - 1) * within.sum() / expected)
