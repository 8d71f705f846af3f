"""`fit`: restore or start, step, and do every periodic thing from one list."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from cogjax.config import save_json
from cogjax.errors import UserError
from cogjax.parallel.mesh import batch_sharding, check_batch, place_batch
from cogjax.parallel.rules import tree_shardings
from cogjax.train.checkpoint import Checkpoints
from cogjax.train.goodput import Goodput
from cogjax.train.lock import lock_workdir
from cogjax.train.metrics import Logger
from cogjax.train.optim import OptimConfig, make_optimizer, make_schedule
from cogjax.train.processes import StopSignal, check_agreement, say
from cogjax.train.session import Hook, Run
from cogjax.train.state import TrainState
from cogjax.train.step import init_state, make_train_step, mean_metrics, weights_of
from cogjax.train.watchdog import Watchdog

Batch = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class TrainConfig:
    """Length and rhythm of a run, in steps; a rhythm of 0 is off.

    batch_size: global, of one update. accumulate: parts a batch is computed in.
    max_bad_steps: non-finite updates in a row before the run stops. max_loss_spike: a
    loss above this times the running median is reported, 0 is off. max_rollbacks: how
    often it also takes the run back to the checkpoint before it, past the batches
    since. step_timeout: seconds after which a step counts as stuck, 0 is off; never
    less than 10 median steps, and 30 times as long for anything but a step.
    """

    steps: int = 1000
    batch_size: int = 16
    seed: int = 0
    accumulate: int = 1
    ema_decay: float = 0.999
    log_every: int = 50
    save_every: int = 500
    eval_every: int = 500
    sample_every: int = 1000
    keep: int = 2
    max_bad_steps: int = 10
    max_loss_spike: float = 0.0
    max_rollbacks: int = 0
    step_timeout: float = 60.0

    def __post_init__(self):
        if self.max_loss_spike != 0 and self.max_loss_spike <= 1:
            raise UserError(
                "config key 'train.max_loss_spike' must be above 1, or 0 for off"
            )
        if min(self.max_rollbacks, self.step_timeout) < 0:
            raise UserError(
                "config section 'train': max_rollbacks and step_timeout must not be "
                "negative"
            )
        if self.max_rollbacks and not self.max_loss_spike:
            raise UserError(
                "config key 'train.max_rollbacks' needs train.max_loss_spike"
            )
        if min(self.steps, self.batch_size, self.accumulate, self.keep) < 1:
            raise UserError(
                "config section 'train': steps, batch_size, accumulate and keep must "
                "be at least 1"
            )
        if self.batch_size % self.accumulate:
            raise UserError(
                f"train.batch_size {self.batch_size} does not divide into "
                f"{self.accumulate} parts: change train.accumulate"
            )


def fit(
    task: Any,
    make_batches: Callable[[int], Iterator[Batch]],
    config: TrainConfig,
    optim: OptimConfig,
    mesh: Mesh,
    workdir: Path,
    *,
    hooks: Sequence[Hook] = (),
    eval_batches: Iterable[Batch] | None = None,
    fingerprint: str = "",
    run_config: Mapping[str, Any] | None = None,
    start_params: Any = None,
    start_state: Any = None,
) -> TrainState:
    """Trains `task` to `config.steps`, resuming whatever `workdir` holds.

    `make_batches(k)` yields the batches from step k on. SIGTERM and SIGINT, to any
    process, make all save the same step and exit with status 17; the same call then
    continues bitwise. The entries of `start_params` and `start_state`, dicts, replace
    those of a new run's random start (fine-tuning).
    Raises UserError if the updates stay non-finite, if a checkpoint cannot be saved, if
    another trainer has the workdir, or if the processes differ in what they train.
    """
    check_batch(mesh, config.batch_size // config.accumulate)
    check_agreement(run_config, fingerprint, config)
    workdir.mkdir(parents=True, exist_ok=True)
    schedule = make_schedule(optim, config.steps)
    tx = make_optimizer(optim, schedule, getattr(task, "matrix_axes", None))
    with (
        StopSignal() as stop,
        lock_workdir(workdir),
        Watchdog(workdir, config.step_timeout) as watchdog,
    ):
        given = {"params": start_params, "ema": start_params, "state": start_state}
        checkpoints, goodput = Checkpoints(workdir, config.keep), Goodput()
        with goodput.time("restore"):
            train_state, shardings, example_index = _start(
                task, tx, config, mesh, checkpoints, fingerprint, given
            )
        # Of a run that goes on only here: what is refused leaves the earlier one's.
        if run_config is not None and jax.process_index() == 0:
            save_json(run_config, workdir / "config.json")
        logger = Logger(workdir, int(train_state.step))
        goodput.add("lost", logger.lost_seconds)
        evaluate = (config.eval_every, _make_eval(task, eval_batches, mesh))
        # Rounded up: with another batch size no example is seen twice.
        position = -(-example_index // config.batch_size)
        tools = checkpoints, logger, goodput, watchdog, stop
        run = Run(config, mesh, fingerprint, (evaluate, *hooks), *tools, position)
        step = make_step(task, tx, schedule, config, shardings, mesh)
        try:
            return run.steps(step, train_state, make_batches(position))
        finally:
            run.close()


def _start(task, tx, config, mesh, checkpoints, fingerprint, given):
    """(restored or fresh state on the mesh, its shardings, example index).

    given: entries of a fresh state's fields, else they are those of `task.init`.
    """

    def init(key):
        return init_state(task, tx, key)

    key = jax.random.key(config.seed)
    abstract = jax.eval_shape(init, key)
    shardings = tree_shardings(abstract, mesh, getattr(task, "param_axes", ()))
    restored = checkpoints.restore(abstract, shardings, fingerprint)
    if restored is None:
        fresh = jax.jit(init, out_shardings=shardings)(key)
        for name, entries in given.items():
            field, places = getattr(fresh, name), getattr(shardings, name)
            for key, value in (entries or {}).items():
                value = jax.device_put(value, places[key])
                # A copy: the step donates its arguments, each buffer once.
                field = {**field, key: jax.tree.map(jax.numpy.copy, value)}
            fresh = dataclasses.replace(fresh, **{name: field})
        return fresh, shardings, 0
    train_state, example_index = restored
    say(f"resuming at step {int(train_state.step)}")
    return train_state, shardings, example_index


def make_step(
    task: Any,
    tx: Any,
    schedule: Any,
    config: TrainConfig,
    shardings: TrainState,
    mesh: Mesh,
) -> Callable:
    """The jitted step (state, batch) -> (state, metrics); it donates the state."""
    step = make_train_step(
        task, tx, schedule, accumulate=config.accumulate, ema_decay=config.ema_decay
    )
    return jax.jit(
        step,
        in_shardings=(shardings, batch_sharding(mesh)),
        out_shardings=(shardings, None),
        donate_argnums=0,
    )


def _make_eval(task, batches: Iterable[Batch] | None, mesh: Mesh):
    """A periodic action: the task's metrics of all batches, with the EMA weights."""
    if batches is None:
        return lambda step, train_state, logger: None
    key = jax.random.key(0)

    @jax.jit
    def evaluate(params, state, batch):
        metrics = task.eval_metrics(params, state, batch, key)
        return metrics, weights_of(task, batch)

    def action(step, train_state, logger):
        state = train_state.ema, train_state.state
        with jax.set_mesh(mesh):
            found = [evaluate(*state, place_batch(batch, mesh)) for batch in batches]
        found = jax.tree.map(lambda *each: np.stack(each), *jax.device_get(found))
        means = mean_metrics(*found)
        logger.scalars(step, {f"eval/{name}": v for name, v in means.items()})

    return action
