"""How a run spent its time."""

import contextlib
import time
from collections.abc import Iterator

ACTIVITIES = ("compile", "step", "data", "save", "restore", "eval", "lost")


class Goodput:
    """Seconds of each kind, as the main thread saw them.

    compile: the start of a new run and the first step's call. data: waiting for a
    batch. save: training held up by saving. eval: evaluations and images. lost: steps
    that a crash or a roll-back made the run do again.
    """

    def __init__(self):
        self._total = dict.fromkeys(ACTIVITIES, 0.0)
        self._taken = dict(self._total)

    @contextlib.contextmanager
    def time(self, kind: str) -> Iterator[None]:
        """Adds the seconds that the block takes."""
        start = time.monotonic()
        try:
            yield
        finally:
            self.add(kind, time.monotonic() - start)

    def add(self, kind: str, seconds: float) -> None:
        """Adds seconds measured elsewhere."""
        self._total[kind] += seconds

    @property
    def stepped(self) -> bool:
        """Whether a step was tried."""
        return self._total["compile"] > 0

    def take(self) -> dict[str, float]:
        """Seconds since the last call, for a row of metrics: rows add up."""
        new = {
            f"seconds/{kind}": round(value - self._taken[kind], 4)
            for kind, value in self._total.items()
        }
        self._taken = dict(self._total)
        return new

    def __str__(self) -> str:
        whole = sum(self._total.values())
        share = self._total["step"] / max(whole, 1e-9)
        parts = ", ".join(f"{kind} {value:.1f}" for kind, value in self._total.items())
        return f"{share:.0%} of {whole:.1f} s in steps ({parts})"
