"""What a run is resumed with that it was not started with."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from cogjax.config import load_json, section
from cogjax.errors import UserError
from cogjax.train.optim import OptimConfig, make_schedule
from cogjax.train.processes import flat, say


def check_resume(
    workdir: Path,
    new: Mapping[str, Any] | None,
    train: Any,
    optim: OptimConfig,
    step: int,
) -> None:
    """Says which keys differ from WORKDIR/config.json, and what that does to the rate.

    new: the resolved config, of which `train` (`TrainConfig`) and `optim` are sections.
    step: of the checkpoint that is resumed. UserError for another seed, which would
    pick other examples in another order, and for another optimiser, whose state the
    checkpoint does not have.
    """
    path = workdir / "config.json"
    if new is None or not path.is_file():
        return
    old, new = load_json(path), json.loads(json.dumps(new))
    before, after = flat("", old), flat("", new)
    keys = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    if not keys:
        return
    try:
        old_train = section(type(train), old.get("train", {}), "train")
        old_optim = section(OptimConfig, old.get("optim", {}), "optim")
    except UserError as error:
        raise UserError(f"{path} is not of this version: {error}") from error
    if old_train.seed != train.seed:
        raise UserError(
            f"{workdir} was trained with train.seed {old_train.seed}, not "
            f"{train.seed}, which orders its examples otherwise: keep the seed, or "
            "start in a new workdir"
        )
    _check_optimiser(workdir, old_optim, optim)
    changes = [
        f"{key[1:]} was {before.get(key, 'not set')}, is {after.get(key, 'not set')}"
        for key in keys
    ]
    more = f" (and {len(changes) - 10} more)" if len(changes) > 10 else ""
    say(f"the config has changed: {'; '.join(changes[:10])}{more}")
    was = float(jax.jit(make_schedule(old_optim, old_train.steps))(step))
    now = float(jax.jit(make_schedule(optim, train.steps))(step))
    if was != now:
        say(f"the learning rate of step {step} was {was:.3g}, is {now:.3g}")


def _check_optimiser(workdir: Path, old: OptimConfig, new: OptimConfig) -> None:
    """UserError if the state of one has not the form of the other's."""
    for key in ("name", "moments"):
        was, now = getattr(old, key), getattr(new, key)
        if was != now:
            raise UserError(
                f"{workdir} was trained with optim.{key} {was!r}, not {now!r}, whose "
                f"state its checkpoints do not have: set optim.{key}={was}, or start "
                "in a new workdir"
            )
