"""One process of a tiny training run, started by `launcher` and made to fail by it.

Importing this imports all that a run needs: the fork server does it once, so that a
process starts in milliseconds.
"""

import dataclasses
import faulthandler
import os
import resource
import sys
import time
from pathlib import Path

import jax
import numpy as np

from cogjax import cli
from cogjax.config import load_json
from cogjax.data import batches as data_pipeline
from cogjax.errors import UserError
from cogjax.parallel.mesh import MeshConfig, make_mesh
from cogjax.stages import run as launch
from cogjax.train.loop import TrainConfig, fit
from cogjax.train.optim import OptimConfig
from cogjax.train.session import Job
from tests.train.toy import Line, digest, make_batches

BATCH = 8


@dataclasses.dataclass(frozen=True)
class Options:
    """What a run does and what befalls it, in steps and seconds.

    pause: seconds of sleep a batch. poison: steps whose batch is NaN; a negative one
    poisons only the last process. stuck: step before which this process sleeps for
    ever. max_file: bytes that a file may have, as on a full disk. config: JSON file of
    a run that `cogjax.stages.run` trains instead of the toy; of the others only `pause`
    and `steps` are for it, the latter to wait for.
    """

    steps: int = 24
    save_every: int = 6
    log_every: int = 1
    seed: int = 0
    lr: float = 0.1
    fingerprint: str = ""
    pause: float = 0.0
    poison: tuple[int, ...] = ()
    stuck: int = -1
    max_file: int = 0
    step_timeout: float = 60.0
    heartbeat: int = 100
    devices: int = 1
    config: str = ""


def main(workdir: str, options: Options, cache: str, process, count, port) -> None:
    """Trains, writes the digest of the state, and exits as the command line does."""
    _print_to(log_path(workdir, process))
    faulthandler.enable(sys.stderr)
    count_flag = "--xla_force_host_platform_device_count="
    flags = os.environ.get("XLA_FLAGS", "").split()
    flags = [flag for flag in flags if not flag.startswith(count_flag)]
    os.environ["XLA_FLAGS"] = " ".join([*flags, f"{count_flag}{options.devices}"])
    _compile_once(cache)
    if count > 1:
        jax.distributed.initialize(
            f"127.0.0.1:{port}",
            count,
            process,
            heartbeat_timeout_seconds=options.heartbeat,
            shutdown_timeout_seconds=10,
        )
    if options.max_file:
        resource.setrlimit(resource.RLIMIT_FSIZE, (options.max_file,) * 2)
    try:
        how = train_config if options.config else train
        state = how(Path(workdir), options)
        (Path(workdir) / f"digest-{process}").write_text(digest_local(state))
    except UserError as error:
        print(f"cogjax: error: {error}", flush=True)
        raise SystemExit(2) from None
    finally:
        if count > 1:
            jax.distributed.shutdown()


def command(words: list[str], log: Path, cache: str) -> None:
    """One command line, as `cogjax` runs it."""
    _print_to(log)
    _compile_once(cache)
    raise SystemExit(cli.main(words))


def _print_to(path: Path) -> None:
    log = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.stdout = os.fdopen(1, "w", buffering=1)
    sys.stderr = os.fdopen(2, "w", buffering=1)


def _compile_once(cache: str) -> None:
    jax.config.update("jax_compilation_cache_dir", cache)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)


def log_path(workdir: str | Path, process: int) -> Path:
    """Everything that a process has printed, over all its starts."""
    return Path(f"{workdir}-{process}.log")


def train(workdir: Path, options: Options):
    """The run itself; returns its last state."""
    config = TrainConfig(
        steps=options.steps,
        batch_size=BATCH,
        seed=options.seed,
        log_every=options.log_every,
        save_every=options.save_every,
        eval_every=0,
        max_bad_steps=3,
        step_timeout=options.step_timeout,
    )
    optim = OptimConfig(lr=options.lr, warmup=1, schedule="constant")
    devices = jax.devices() if jax.process_count() > 1 else jax.devices()[:1]
    mesh = make_mesh(MeshConfig(), devices)
    job = Job(
        Line(),
        lambda start: batches(start, options),
        fingerprint=options.fingerprint,
        config={"optim": {"lr": options.lr}},
    )
    return fit(job, config, optim, mesh, workdir)


def train_config(workdir: Path, options: Options):
    """The run of a config, as `cogjax train` does it; returns its last state."""
    states, make = [], data_pipeline.batches

    def fit_and_keep(*args, **settings):
        states.append(fit(*args, **settings))
        return states[-1]

    def slow_batches(*args, **settings):
        for batch in make(*args, **settings):
            time.sleep(options.pause)
            yield batch

    # This process is for one run only: what is replaced here stays so.
    launch.fit = fit_and_keep
    data_pipeline.batches = slow_batches
    launch.train(load_json(options.config), workdir)
    return states[0]


def batches(start: int, options: Options):
    """The toy batches, with the faults of `options`."""
    last = jax.process_index() == jax.process_count() - 1
    for step, batch in enumerate(make_batches(start), start):
        time.sleep(options.pause if step != options.stuck else 10_000)
        here = step in options.poison
        here |= -step in options.poison and last
        yield {**batch, "x": batch["x"] * np.float32(np.nan if here else 1)}


def digest_local(state) -> str:
    """SHA-256 over what this process holds of a state."""
    return digest(
        jax.tree.map(
            lambda leaf: np.concatenate(
                [np.ravel(shard.data) for shard in leaf.addressable_shards]
            ),
            state,
        )
    )
