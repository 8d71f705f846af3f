"""A trace of some steps by JAX's profiler, for `train.profile`."""

from pathlib import Path
from typing import Any

import jax

from cogjax.train.processes import say

_WARM = 3  # steps before: the first one compiles


class Profile:
    """Traces so many steps of a run, soon after its start; 0 is none.

    start, end: first and last step of this call of `fit`. What TensorBoard's profiler
    and Perfetto read is in WORKDIR/profile.
    """

    def __init__(self, workdir: Path, steps: int, start: int, end: int):
        self._folder, self._steps = workdir / "profile", steps
        self._first = min(start + _WARM, max(start, end - steps)) if steps else -1
        self._last = min(self._first + steps, end)
        self._on = False

    def before(self, done: int) -> None:
        """Called before a step, so many being done."""
        if done == self._first and jax.process_index() == 0:
            jax.profiler.start_trace(str(self._folder))
            self._on = True

    def after(self, done: int, metrics: Any) -> None:
        """Called with what a step gives, so many being done."""
        if self._on and done >= self._last:
            jax.block_until_ready(metrics)
            self.close()
            say(f"traced {self._last - self._first} steps: {self._folder}")

    def close(self) -> None:
        """Ends a trace that is not ended, as an error leaves it."""
        if self._on:
            self._on = False
            jax.profiler.stop_trace()
