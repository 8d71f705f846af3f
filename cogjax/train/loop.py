"""`fit`: restores or starts a run, steps, and calls the periodic hooks."""

import contextlib
import dataclasses
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from cogjax.config import save_json
from cogjax.errors import UserError
from cogjax.parallel.mesh import batch_sharding, check_batch, place_batch
from cogjax.train.checkpoint import Checkpoints
from cogjax.train.compression import (
    Compression,
    make_compression,
    state_shardings,
)
from cogjax.train.goodput import Goodput
from cogjax.train.history import note_session
from cogjax.train.lock import lock_workdir
from cogjax.train.metrics import METRICS
from cogjax.train.optim import OptimConfig, make_optimizer, make_schedule
from cogjax.train.patience import HeldOut
from cogjax.train.processes import StopSignal, check_agreement, say
from cogjax.train.profile import Profile
from cogjax.train.resume import check_resume
from cogjax.train.session import Batch, Job, Session
from cogjax.train.state import TrainState
from cogjax.train.step import (
    at_precision,
    init_state,
    make_train_step,
    mean_metrics,
)
from cogjax.train.task import Task
from cogjax.train.wandb_logger import check_wandb, make_logger
from cogjax.train.watchdog import Watchdog


@dataclass(frozen=True)
class TrainConfig:
    """Length and rhythm of a run, in steps; a rhythm of 0 is off.

    steps: updates until the end. batch_size: global, of one update. seed: of the
    weights, the order of the data, and all that is drawn. accumulate: parts a batch is
    computed in. ema_decay: of the average of the weights, which is evaluated and
    exported; 0 takes the last weights. log_every: steps between two lines of metrics.
    save_every: between checkpoints. eval_every: between evaluations on held-out data.
    sample_every: between sample grids. keep: newest checkpoints that stay.
    max_bad_steps: non-finite updates in a row before the run stops. max_loss_spike: a
    loss above this times the running median is reported, 0 is off. max_rollbacks: how
    often it also takes the run back to the checkpoint before it, past the batches
    since. step_timeout: seconds after which a step counts as stuck, 0 is off; never
    less than 10 median steps, and 30 times as long for anything but a step. patience:
    evaluations without a lower held-out loss after which the run ends, at its lowest, 0
    is off; a checkpoint goes with each evaluation. wandb: project at Weights & Biases
    that gets the metrics and samples too. profile: steps that JAX's profiler traces,
    into WORKDIR/profile. products: "bfloat16" rounds the factors of products in an
    update, which are added up in float32, as TPUs do anyway; on a CPU those of dense
    layers and of Muon, in half the time where it multiplies such numbers.
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
    patience: int = 0
    wandb: str = ""
    profile: int = 0
    products: Literal["default", "bfloat16"] = "default"

    @property
    def precision(self) -> str | None:
        """That of products in an update, None for what the device usually has."""
        return None if self.products == "default" else self.products

    def __post_init__(self):
        for name in ("log_every", "save_every", "eval_every", "sample_every"):
            if getattr(self, name) < 0:
                raise UserError(f"config key 'train.{name}' must not be negative")
        if not (0 <= self.ema_decay <= 1 and 0 <= self.seed < 2**32):
            raise UserError(
                "config section 'train': ema_decay is 0 to 1, seed 0 to 2**32 - 1"
            )
        if self.max_loss_spike != 0 and self.max_loss_spike <= 1:
            raise UserError(
                "config key 'train.max_loss_spike' must be above 1, or 0 for off"
            )
        if min(self.max_rollbacks, self.step_timeout, self.profile) < 0:
            raise UserError(
                "config section 'train': max_rollbacks, step_timeout and profile must "
                "not be negative"
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
        if self.patience and (
            self.patience < 0
            or self.save_every != self.eval_every
            or self.eval_every == 0
            or self.keep <= self.patience
        ):
            raise UserError(
                "config key 'train.patience' needs save_every as often as eval_every, "
                "and keep above itself: the checkpoint at the lowest loss stays"
            )
        if self.batch_size % self.accumulate:
            raise UserError(
                f"train.batch_size {self.batch_size} does not divide into "
                f"{self.accumulate} parts: change train.accumulate"
            )


def fit(
    job: Job, config: TrainConfig, optim: OptimConfig, mesh: Mesh, workdir: Path
) -> TrainState:
    """Trains `job.task` to `config.steps`, resuming whatever `workdir` holds.

    After SIGTERM or SIGINT to any process, all save the same step and exit with status
    17; the same call then continues bitwise.
    Raises UserError if the updates stay non-finite, if a checkpoint cannot be saved, if
    another trainer has the workdir, or if the processes differ in what they train.
    """
    check_batch(mesh, config.batch_size // config.accumulate)
    check_agreement(job.config, job.fingerprint, config)
    check_wandb(config.wandb)
    _check_patience(job, config)
    compression = make_compression(optim.powersgd, job.task, mesh)
    workdir.mkdir(parents=True, exist_ok=True)
    schedule = make_schedule(optim, config.steps)
    tx = make_optimizer(optim, schedule, job.task.matrix_axes)
    with (
        late_writes_unsaid(),
        StopSignal() as stop,
        lock_workdir(workdir),
        Watchdog(workdir, config.step_timeout) as watchdog,
    ):
        goodput = Goodput()
        checkpoints = Checkpoints(workdir, config.keep, job.task.frozen)
        if checkpoints.steps:
            check_resume(workdir, job.config, config, optim, checkpoints.steps[-1])
        with goodput.time("restore" if checkpoints.steps else "compile"):
            init = partial(init_state, job.task, tx, compression=compression)
            abstract = jax.eval_shape(init, jax.random.key(config.seed))
            _announce(job, config, abstract, workdir)
            train_state, shardings, example_index = _start(
                job, (init, abstract), config, mesh, checkpoints
            )
        # They are in the state now: a run does not need them twice.
        job = dataclasses.replace(job, start_params=None, start_state=None)
        # After the restore, so that a refused resume keeps the earlier config.json.
        start = int(train_state.step)
        if jax.process_index() == 0:
            _note(job.config, start, config.steps, workdir, mesh)
        logger = make_logger(workdir, start, config.wandb, job.config)
        goodput.add("lost", logger.lost_seconds)
        evaluate = (config.eval_every, _make_eval(job.task, job.eval_batches, mesh))
        job = dataclasses.replace(job, hooks=(evaluate, *job.hooks))
        # Rounded up: with another batch size no example is seen twice.
        position = -(-example_index // config.batch_size)
        held_out = HeldOut(config.patience, workdir / METRICS)
        profile = Profile(workdir, config.profile, start, config.steps)
        tools = checkpoints, logger, goodput, watchdog, stop, held_out, profile
        session = Session(job, config, mesh, *tools, position)
        step = make_step(job.task, tx, schedule, config, (shardings, mesh), compression)
        try:
            return session.steps(step, train_state)
        finally:
            session.close()


def _note(
    config: Mapping[str, Any] | None, start: int, steps: int, workdir: Path, mesh: Mesh
) -> None:
    """The resolved config, and the session unless there is nothing left to do."""
    if config is not None:
        save_json(config, workdir / "config.json")
    if start < steps:
        note_session(workdir, start, config, mesh)


def _check_patience(job: Job, config: TrainConfig) -> None:
    """UserError for a run that is to end by examples that it does not have."""
    if config.patience and not job.eval_batches:
        raise UserError(
            "config key 'train.patience' needs examples that are held out, and there "
            "are none: set eval.batches, and data.eval_split to a split that has some"
        )


@contextlib.contextmanager
def late_writes_unsaid() -> Iterator[None]:
    """Within, writes that end after one of their save has failed print no tracebacks.

    TensorStore tells each to an event loop of Orbax, which the failure has closed.
    """
    usual = sys.unraisablehook

    def show(found: Any) -> None:
        if str(found.exc_value) != "Event loop is closed":
            usual(found)

    sys.unraisablehook = show
    try:
        yield
    finally:
        sys.unraisablehook = usual


def _announce(
    job: Job, config: TrainConfig, abstract: TrainState, workdir: Path
) -> None:
    """Says what is about to be compiled and trained: it may take minutes."""
    count = sum(leaf.size for leaf in jax.tree.leaves(abstract.params))
    path = (job.config or {}).get("data", {}).get("path", "")
    data = f" of {path}" if path else ""
    say(
        f"training {count:,} parameters in {workdir}: {config.steps:,} steps of "
        f"{config.batch_size} examples{data}"
    )


def _start(
    job: Job, made: tuple, config: TrainConfig, mesh: Mesh, checkpoints: Checkpoints
):
    """(restored or fresh state on the mesh, its shardings, example index).

    made: what makes a fresh state of a key, and its shapes.
    """
    (init, abstract), key = made, jax.random.key(config.seed)
    shardings = state_shardings(abstract, mesh, job.task.param_axes)
    restored = checkpoints.restore(abstract, shardings, job.fingerprint)
    if restored is None:
        fresh = jax.jit(init, out_shardings=shardings)(key)
        return _with_start(job, fresh, shardings), shardings, 0
    train_state, example_index = restored
    say(f"resuming at step {int(train_state.step)}")
    frozen = {name: (job.start_state or {})[name] for name in job.task.frozen}
    placed = jax.device_put(frozen, {n: shardings.state[n] for n in frozen})
    state = train_state.state | _copy(placed)
    train_state = dataclasses.replace(train_state, state=state)
    return train_state, shardings, example_index


_means = jax.jit(mean_metrics)


@jax.jit
def _copy(tree: Any) -> Any:
    return jax.tree.map(jnp.copy, tree)


def _with_start(job: Job, fresh: TrainState, shardings: TrainState) -> TrainState:
    """A fresh state with the entries that the job starts from."""

    def replaced(entries, field, places):
        if not entries:
            return field
        places = {name: places[name] for name in entries}
        old = {name: field[name] for name in entries}
        # Two states may not fit into the memory of a device.
        jax.tree.map(lambda leaf: leaf.delete(), old)
        # Copies: the step donates its arguments, each buffer once.
        return field | _copy(jax.device_put(dict(entries), places))

    return dataclasses.replace(
        fresh,
        params=replaced(job.start_params, fresh.params, shardings.params),
        ema=replaced(job.start_params, fresh.ema, shardings.ema),
        state=replaced(job.start_state, fresh.state, shardings.state),
    )


def make_step(
    task: Task,
    tx: Any,
    schedule: Any,
    config: TrainConfig,
    where: tuple[TrainState, Mesh],
    compression: Compression | None,
) -> Callable:
    """The jitted step (state, batch) -> (state, metrics); it donates the state.

    where: shardings of the state, and their mesh.
    """
    shardings, mesh = where
    step = make_train_step(
        task,
        tx,
        schedule,
        accumulate=config.accumulate,
        ema_decay=config.ema_decay,
        compression=compression,
    )
    return jax.jit(
        at_precision(step, config.precision),
        in_shardings=(shardings, batch_sharding(mesh)),
        out_shardings=(shardings, None),
        donate_argnums=0,
    )


def _make_eval(task: Task, batches: Iterable[Batch] | None, mesh: Mesh):
    """A periodic action: the task's metrics of all batches, with the EMA weights.

    It returns their loss, if they have one.
    """
    if batches is None:
        return lambda step, train_state, logger: None
    key = jax.random.key(0)

    @jax.jit
    def evaluate(params, state, batch):
        metrics = task.eval_metrics(params, state, batch, key)
        return metrics, task.weights(batch)

    def action(step, train_state, logger):
        state = train_state.ema, train_state.state
        with jax.set_mesh(mesh):
            found = [evaluate(*state, place_batch(batch, mesh)) for batch in batches]
        found = jax.tree.map(lambda *each: np.stack(each), *jax.device_get(found))
        means = _means(*found)
        logger.scalars(step, {f"eval/{name}": v for name, v in means.items()})
        return float(means["loss"]) if "loss" in means else None

    return action
