"""Confidence intervals of shares."""

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
