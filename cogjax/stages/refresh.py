"""The hook that keeps a run's report up to date (`evaluate/report/training.py`)."""

import time
from pathlib import Path
from typing import Any

import jax

from cogjax.errors import UserError
from cogjax.evaluate.report.training import write_training_report
from cogjax.train.processes import say
from cogjax.train.session import Hook

_LEAST_APART = 50  # times as long as the report took: 2 % of the time at most


class Refresh:
    """Writes the report of a run now and then; what hinders it is said once."""

    def __init__(self, workdir: Path):
        self._workdir, self._next, self._said = workdir, 0.0, False

    def hooks(self, train: Any) -> tuple[Hook, ...]:
        """Those after evaluations and after images; train: a `TrainConfig`."""
        return tuple(
            (every, self._hook) for every in (train.eval_every, train.sample_every)
        )

    def _hook(self, step: int, train_state: Any, logger: Any) -> None:
        del step, train_state, logger
        if time.monotonic() >= self._next:
            self.write()

    def write(self) -> None:
        """Writes it, on the first process alone."""
        if jax.process_index() > 0:
            return
        start = time.monotonic()
        try:
            write_training_report(self._workdir)
        except Exception as error:  # Whatever it is, a page must not end a training.
            if not self._said:
                kind = (
                    "" if isinstance(error, UserError) else f"{type(error).__name__} "
                )
                say(f"the report is not written: {kind}{error}")
            self._said = True
        end = time.monotonic()
        self._next = end + _LEAST_APART * (end - start)
