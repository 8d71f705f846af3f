"""A trace of some steps by JAX's profiler, for `train.profile`."""

from pathlib import Path

import jax

from cogjax.train.processes import say

_WARM = 3  # steps before: the first one compiles


class Profile:
    """Traces so many steps of a run, soon after its start; 0 is none.

    start, end: first and last step of this call of `fit`. What TensorBoard's profiler
    and Perfetto read is in WORKDIR/profile.
    """

    def __init__(self, workdir: Path, steps: int, start: int, end: int):
        self._folder = workdir / "profile"
        self._first = min(start + _WARM, max(start, end - steps)) if steps else -1
        self._last = min(self._first + steps, end)
        self._on = False

    def before(self, done: int) -> None:
        """Called before a step, so many being done."""
        if done == self._first and jax.process_index() == 0:
            jax.profiler.start_trace(str(self._folder))
            self._on = True

    def ends(self, done: int) -> bool:
        """Whether the trace is to be closed, so many steps being done."""
        return self._on and done >= self._last

    def close(self) -> None:
        """Writes the trace that was begun, also of fewer steps after an error."""
        if self._on:
            self._on = False
            jax.profiler.stop_trace()
            say(f"traced steps from {self._first}: {self._folder}")
