"""Losses far above the usual ones."""

import math
import statistics
from collections import deque

_WINDOW = 64
_WARM = 8


class Spikes:
    """Compares each loss with the running median of up to 64 before it.

    With global losses the result is the same on every process.
    """

    def __init__(self, factor: float):
        """factor: a loss above this times the median is a spike."""
        self._factor = factor
        self._losses: deque[float] = deque(maxlen=_WINDOW)

    def seen(self, loss: float) -> float:
        """How many times the median `loss` is if it is a spike, else 0.

        None of the first 8 losses is a spike, nor is a loss that is not finite.
        """
        if not math.isfinite(loss):
            return 0.0
        warm = len(self._losses) >= _WARM
        median = statistics.median(self._losses) if warm else math.inf
        self._losses.append(loss)
        return loss / median if loss > self._factor * median > 0 else 0.0
