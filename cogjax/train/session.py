"""The loop over steps, and the work between them."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from cogjax.errors import UserError
from cogjax.parallel.mesh import place_batch
from cogjax.train.checkpoint import Checkpoints
from cogjax.train.goodput import Goodput
from cogjax.train.metrics import Logger
from cogjax.train.patience import HeldOut
from cogjax.train.processes import StopSignal, say
from cogjax.train.profile import Profile
from cogjax.train.report import Report
from cogjax.train.state import TrainState
from cogjax.train.step import parted
from cogjax.train.task import Task
from cogjax.train.watchdog import Watchdog

EXIT_INTERRUPTED = 17
# An evaluation returns the held-out loss.
Hook = tuple[int, Callable[[int, TrainState, Logger], float | None]]
Batch = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Job:
    """The task of a run, its batches and its hooks.

    batches: function of a step that yields the batches from that step on. eval_batches:
    all of one evaluation. hooks: (every so many steps, what is then called with step,
    state and logger). fingerprint: of the data and of everything else that the batches
    come from; a run does not resume with another. config: resolved, saved beside the
    checkpoints. start_params, start_state: entries that replace those of a new run's
    random start (fine-tuning). ended: called when the loop has, whatever the reason.
    """

    task: Task
    batches: Callable[[int], Iterator[Batch]]
    eval_batches: Iterable[Batch] | None = None
    hooks: Sequence[Hook] = ()
    fingerprint: str = ""
    config: Mapping[str, Any] | None = None
    start_params: Mapping[str, Any] | None = None
    start_state: Mapping[str, Any] | None = None
    ended: Callable[[], None] | None = None


@dataclass
class Session:
    """One call of `fit`, from the restored state on.

    config: the `TrainConfig`. position: batches of the data that were used so far. It
    is saved as the index of the next example, and is ahead of the step after a
    roll-back.
    """

    job: Job
    config: Any
    mesh: Mesh
    checkpoints: Checkpoints
    logger: Logger
    goodput: Goodput
    watchdog: Watchdog
    stop: StopSignal
    held_out: HeldOut
    profile: Profile
    position: int = 0
    number: int = field(default=0, init=False)
    rollbacks: int = field(default=0, init=False)

    def steps(self, step, train_state: TrainState) -> TrainState:
        """Steps to the end of the run; returns the last state.

        With `train.patience` the end is at the lowest held-out loss.
        """
        batches = self.job.batches(self.position)
        self.number, kind = int(train_state.step), "compile"
        with Report(self.config, self.number, self.logger) as report:
            while self.number < self.config.steps and not self.held_out.over:
                with self.goodput.time("data"):
                    batch = place_batch(next(batches), self.mesh)
                self.profile.before(self.number)
                with self.goodput.time(kind), jax.set_mesh(self.mesh):
                    train_state, metrics = step(train_state, batch)
                    self.number, self.position = self.number + 1, self.position + 1
                    report.step(self.number, self.position, metrics)
                if self.profile.ends(self.number):
                    self.watchdog.expect_long()
                    jax.block_until_ready(metrics)
                    self.profile.close()
                kind = "step"
                self.watchdog.step()
                self.checkpoints.check()
                if report.spike and self._can_roll_back(report.spike):
                    train_state = self._roll_back(report, train_state)
                    continue
                self._periodic(train_state)
                self._stop(report.bad_steps, train_state)
            if self.config.patience and 0 < self.held_out.best < self.number:
                say(f"the held-out loss was lowest at step {self.held_out.best}")
                train_state = self._go_back(train_state, self.held_out.best + 1)
        return train_state

    def close(self) -> None:
        """Waits for the last save and prints how the time was spent."""
        self.watchdog.expect_long()
        try:
            with self.goodput.time("save"):
                self.checkpoints.close()
        finally:
            self.profile.close()
            if self.goodput.stepped:
                self.logger.scalars(self.number, self.goodput.take())
                say(str(self.goodput))
            self.logger.close()
            if self.job.ended:
                self.job.ended()

    def _periodic(self, train_state: TrainState) -> None:
        # Saved first: an error in a hook must not cost the steps before it.
        if self._due(self.config.save_every):
            self._save(train_state)
        for every, action in self.job.hooks:
            if self._due(every):
                self.watchdog.expect_long()
                with self.goodput.time("eval"):
                    loss = action(self.number, train_state, self.logger)
                if loss is not None:
                    self.held_out.seen(self.number, loss)

    def _due(self, every: int) -> bool:
        last = self.number == self.config.steps
        return bool(every) and (last or self.number % every == 0)

    def _save(self, train_state: TrainState) -> None:
        self.watchdog.expect_long()
        example_index = self.position * self.config.batch_size
        with self.goodput.time("save"):
            self.checkpoints.save(train_state, example_index, self.job.fingerprint)
        self.logger.scalars(self.number, self.goodput.take())

    def _stop(self, bad_steps: int, train_state: TrainState) -> None:
        """Ends the run if a signal or lasting non-finite updates ask for it."""
        if self.stop.reached(self.number) and self.number < self.config.steps:
            say(f"saving step {self.number} after a signal")
            self._save(train_state)
            raise SystemExit(EXIT_INTERRUPTED)
        if bad_steps >= self.config.max_bad_steps:
            self._save(train_state)
            raise UserError(
                f"{bad_steps} updates in a row were not finite at step {self.number}: "
                f"the last good weights are saved; lower optim.lr or look at the data"
            )

    def _can_roll_back(self, spike: int) -> bool:
        if not self.config.max_rollbacks:
            return False
        if self.rollbacks == self.config.max_rollbacks:
            raise UserError(
                f"the loss spiked again at step {spike} after {self.rollbacks} "
                f"roll-backs: lower optim.lr or look at the data"
            )
        self.checkpoints.wait()
        found = any(step < spike for step in self.checkpoints.steps)
        if not found:
            say(f"there is no checkpoint before step {spike} to go back to")
        return found

    def _roll_back(self, report: Report, train_state: TrainState) -> TrainState:
        """The last good state before the spike; its batches are not used again."""
        self.rollbacks += 1
        jumped = self.number
        restored = self._go_back(train_state, report.spike)
        self.logger.scalars(self.number, {"rolled_back_from": jumped})
        report.restart(self.number)
        say(
            f"rolled back from step {jumped} to {self.number}; the data goes on at "
            f"example {self.position * self.config.batch_size}"
        )
        return restored

    def _go_back(self, train_state: TrainState, before: int) -> TrainState:
        """The last good state before a step; later ones are no checkpoints any more."""
        self.watchdog.expect_long()
        self.checkpoints.wait()
        jax.block_until_ready(train_state)
        shapes = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(
                leaf.shape, leaf.dtype, sharding=leaf.sharding
            ),
            train_state,
        )
        own, frozen = parted(train_state.state, self.job.task)
        train_state = dataclasses.replace(train_state, state=own)
        # Two states may not fit into the memory of a device.
        jax.tree.map(lambda leaf: leaf.delete(), train_state)
        with self.goodput.time("restore"):
            restored, _ = self.checkpoints.restore(
                shapes,
                jax.tree.map(lambda leaf: leaf.sharding, shapes),
                self.job.fingerprint,
                before=before,
            )
        restored = dataclasses.replace(restored, state=restored.state | frozen)
        self.number = int(restored.step)
        self.goodput.add("lost", self.logger.rewind(self.number))
        return restored
