"""When a run ends because its held-out loss falls no more."""

import math
from pathlib import Path

from cogjax.train.metrics import read_rows


class HeldOut:
    """The lowest held-out loss so far, at step `best`.

    patience: evaluations without a lower one after which the run is `over`; 0 is never.
    path: metrics.jsonl, whose earlier evaluations count too.
    """

    def __init__(self, patience: int, path: Path):
        self._patience, self._waited = patience, 0
        self.best, self._lowest = 0, math.inf
        for row in read_rows(path) if patience else ():
            if row and "eval/loss" in row:
                self.seen(row["step"], row["eval/loss"])

    def seen(self, step: int, loss: float) -> None:
        """An evaluation; one that is not finite is not lower."""
        if loss < self._lowest:
            self.best, self._lowest, self._waited = step, loss, 0
        else:
            self._waited += 1

    @property
    def over(self) -> bool:
        """Whether it has not fallen for long enough."""
        return 0 < self._patience <= self._waited
