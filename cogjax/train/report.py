"""Output of a run while it trains: progress, metrics, bad updates and spikes."""

import time
from collections.abc import Mapping
from typing import Any

import jax

from cogjax.train.metrics import Logger
from cogjax.train.spikes import Spikes


class Report:
    """Progress line or bar, and the metrics of every `log_every`-th step.

    bad_steps: updates in a row that were not finite. spike: number of the last step if
    its loss was a spike, else 0. Both lag one step behind.
    """

    def __init__(self, config: Any, start: int, logger: Logger):
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._config, self._logger = config, logger
        self._spikes = Spikes(config.max_loss_spike)
        self.restart(start)
        console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("step {task.completed}/{task.total}"),
            BarColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
            console=console,
            refresh_per_second=1,  # A notebook keeps all that was drawn.
            disable=not console.is_terminal or jax.process_index() > 0,
        )
        self._task = self._bar.add_task("", total=config.steps, completed=start)

    def restart(self, number: int) -> None:
        """Goes on from step `number`, at the start or after a roll-back."""
        self._since, self._started = number, time.monotonic()
        self._previous: tuple[int, int, dict[str, Any]] | None = None
        self.bad_steps = self.spike = 0

    def __enter__(self):
        self._bar.start()
        return self

    def __exit__(self, *_):
        self._bar.stop()

    def step(self, number: int, position: int, metrics: Mapping[str, Any]) -> None:
        """Called after each dispatch; waits for the step before.

        Only one step is in flight: CPU collectives of JAX 0.10 deadlock with more.
        position: batches of the data that were used, this one included.
        """
        if self._previous:
            self._look(*self._previous)
        self._previous = number, position, dict(metrics)
        last = number == self._config.steps
        every = self._config.log_every
        if last or (every and number % every == 0):
            self._log(number, {name: float(v) for name, v in metrics.items()})
        self._bar.update(self._task, completed=number)

    def _look(self, number: int, position: int, metrics: Mapping[str, Any]) -> None:
        bad_steps = int(metrics["bad_steps"])
        watched = self._config.max_loss_spike
        times = self._spikes.seen(float(metrics["loss"])) if watched else 0.0
        self.spike = number if times else 0
        if bad_steps == 1:
            self._warn(number, position, "is not finite: its update is skipped")
        if times:
            loss = float(metrics["loss"])
            text = f"has loss {loss:.4g}, {times:.1f} times the running median"
            self._warn(number, position, text)
            self._logger.scalars(number, {"spike": times, "loss_at_spike": loss})
        self.bad_steps = bad_steps

    def _warn(self, number: int, position: int, text: str) -> None:
        size = self._config.batch_size
        first, end = (position - 1) * size, position * size
        if jax.process_index() == 0:
            line = f"cogjax: step {number} {text} (examples {first} to {end - 1})"
            self._bar.console.print(line, soft_wrap=True, highlight=False)

    def _log(self, number: int, values: dict[str, float]) -> None:
        self.bad_steps = int(values["bad_steps"])
        now = time.monotonic()
        rate = (number - self._since) / max(now - self._started, 1e-9)
        self._since, self._started = number, now
        values["examples_per_second"] = rate * self._config.batch_size
        self._logger.scalars(number, values)
        line = f"loss {values['loss']:.4f}  {values['examples_per_second']:.1f}/s"
        self._bar.update(self._task, description=line)
        if self._bar.disable and jax.process_index() == 0:
            left = (self._config.steps - number) / max(rate, 1e-9)
            print(f"step {number}  {line}  {left / 60:.0f} min left", flush=True)
