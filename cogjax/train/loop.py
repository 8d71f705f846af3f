"""`fit`: restore or start, step, and do every periodic thing from one list."""

import dataclasses
import signal
import threading
import time
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
from cogjax.train.metrics import Logger
from cogjax.train.optim import OptimConfig, make_optimizer, make_schedule
from cogjax.train.state import TrainState
from cogjax.train.step import init_state, make_train_step

EXIT_INTERRUPTED = 17
Batch = Mapping[str, np.ndarray]
Hook = tuple[int, Callable[[int, TrainState, Logger], None]]


@dataclass(frozen=True)
class TrainConfig:
    """Length and rhythm of a run, in steps; a rhythm of 0 is off.

    batch_size: global, of one update. accumulate: parts a batch is computed in.
    max_bad_steps: non-finite updates in a row before the run stops.
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

    def __post_init__(self):
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
) -> TrainState:
    """Trains `task` to `config.steps`, resuming whatever `workdir` holds.

    `make_batches(k)` yields the batches from step k on. SIGTERM and SIGINT save after
    the current step and exit with status 17; the same call then continues bitwise.
    `start_params` replace the random start of a new run (fine-tuning).
    Raises UserError if the updates stay non-finite.
    """
    check_batch(mesh, config.batch_size // config.accumulate)
    workdir.mkdir(parents=True, exist_ok=True)
    if run_config is not None:
        save_json(run_config, workdir / "config.json")
    schedule = make_schedule(optim, config.steps)
    tx = make_optimizer(optim, schedule, getattr(task, "matrix_axes", None))
    checkpoints = Checkpoints(workdir, config.keep)
    train_state, shardings = _start(
        task, tx, config, mesh, checkpoints, fingerprint, start_params
    )
    step = _make_step(task, tx, schedule, config, shardings, mesh)
    logger = Logger(workdir, int(train_state.step))

    def save(_, now: TrainState, __) -> None:
        checkpoints.save(now, fingerprint, config.batch_size)

    evaluate = (config.eval_every, _make_eval(task, eval_batches, mesh))
    try:
        train_state = _run(
            step,
            train_state,
            make_batches(int(train_state.step)),
            config,
            mesh,
            logger,
            (evaluate, *hooks, (config.save_every, save)),
            save,
        )
    finally:
        logger.close()
        checkpoints.close()
    return train_state


def _start(task, tx, config, mesh, checkpoints, fingerprint, start_params):
    """The restored or fresh state on the mesh, and its shardings."""

    def init(key):
        return init_state(task, tx, key)

    key = jax.random.key(config.seed)
    abstract = jax.eval_shape(init, key)
    shardings = tree_shardings(abstract, mesh, getattr(task, "param_axes", ()))
    restored = checkpoints.restore(abstract, shardings, fingerprint)
    if restored is None:
        fresh = jax.jit(init, out_shardings=shardings)(key)
        if start_params is not None:
            params = jax.device_put(start_params, shardings.params)
            ema = jax.tree.map(jax.numpy.copy, params)
            fresh = dataclasses.replace(fresh, params=params, ema=ema)
        return fresh, shardings
    print(f"cogjax: resuming at step {int(restored.step)}", flush=True)
    return restored, shardings


def _make_step(task, tx, schedule, config, shardings, mesh):
    """The compiled step (state, batch) -> (state, metrics); it donates the state."""
    step = make_train_step(
        task, tx, schedule, accumulate=config.accumulate, ema_decay=config.ema_decay
    )
    return jax.jit(
        step,
        in_shardings=(shardings, batch_sharding(mesh)),
        out_shardings=(shardings, None),
        donate_argnums=0,
    )


def _run(step, train_state, batches, config, mesh, logger, periodic, save):
    number = int(train_state.step)
    with _Signals() as signals, _Report(config, number, logger) as report:
        while number < config.steps:
            batch = place_batch(next(batches), mesh)
            with jax.set_mesh(mesh):
                train_state, metrics = step(train_state, batch)
            number += 1
            report.step(number, metrics)
            for every, action in periodic:
                if every and (number % every == 0 or number == config.steps):
                    action(number, train_state, logger)
            if signals.received and number < config.steps:
                save(number, train_state, logger)
                print(f"cogjax: saving step {number} after a signal", flush=True)
                raise SystemExit(EXIT_INTERRUPTED)
            if report.bad_steps >= config.max_bad_steps:
                save(number, train_state, logger)
                raise UserError(
                    f"{report.bad_steps} updates in a row were not finite at step "
                    f"{number}: the last good weights are saved; lower optim.lr or "
                    f"look at the data"
                )
    return train_state


class _Signals:
    """Remembers SIGTERM and SIGINT instead of dying; a second one kills as usual."""

    received = False

    def __enter__(self):
        self._old = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._old[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_):
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def _note(self, number, _):
        self.received = True
        signal.signal(number, self._old[number])


class _Report:
    """Progress line or bar, and the metrics of every `log_every`-th step."""

    def __init__(self, config: TrainConfig, start: int, logger: Logger):
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._config, self._logger = config, logger
        self._since, self._started = start, time.monotonic()
        self._previous: dict[str, Any] = {}
        self.bad_steps = 0
        console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("step {task.completed}/{task.total}"),
            BarColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=config.steps, completed=start)

    def __enter__(self):
        self._bar.start()
        return self

    def __exit__(self, *_):
        self._bar.stop()

    def step(self, number: int, metrics: Mapping[str, Any]) -> None:
        """Called after each dispatch; waits for the step before.

        So one step is in flight; CPU collectives of JAX 0.10 deadlock with more.
        """
        if self._previous:
            self.bad_steps = int(self._previous["bad_steps"])
        self._previous = dict(metrics)
        last = number == self._config.steps
        every = self._config.log_every
        if last or (every and number % every == 0):
            self._log(number, {name: float(v) for name, v in metrics.items()})
        self._bar.update(self._task, completed=number)

    def _log(self, number: int, values: dict[str, float]) -> None:
        self.bad_steps = int(values["bad_steps"])
        now = time.monotonic()
        rate = (number - self._since) / max(now - self._started, 1e-9)
        self._since, self._started = number, now
        values["examples_per_second"] = rate * self._config.batch_size
        self._logger.scalars(number, values)
        line = f"loss {values['loss']:.4f}  {values['examples_per_second']:.1f}/s"
        self._bar.update(self._task, description=line)
        if self._bar.disable:
            left = (self._config.steps - number) / max(rate, 1e-9)
            print(f"step {number}  {line}  {left / 60:.0f} min left", flush=True)


def _make_eval(task, batches: Iterable[Batch] | None, mesh: Mesh):
    """A periodic action: mean of the task's eval metrics with the EMA weights."""
    if batches is None:
        return lambda step, train_state, logger: None
    evaluate = jax.jit(task.eval_metrics)
    key = jax.random.key(0)

    def action(step, train_state, logger):
        state = train_state.ema, train_state.state
        with jax.set_mesh(mesh):
            rows = [
                evaluate(*state, place_batch(batch, mesh), key) for batch in batches
            ]
        means = {name: np.mean([float(row[name]) for row in rows]) for name in rows[0]}
        logger.scalars(step, {f"eval/{name}": v for name, v in means.items()})

    return action
