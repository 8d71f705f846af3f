"""The state of a training run at one step."""

import dataclasses
from typing import Any

import jax
from jax import Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """Everything that the next step depends on.

    step: int32, updates tried so far, also the position in the data. state: the task's
    own (a codebook). ema: moving average of params. key: of the run, raw key data;
    step t uses `fold_in(key, t)`. bad_steps: failed updates in a row. loss_scale: of
    `train/loss_scale.py`, {} without one. powersgd: of `parallel/powersgd.py`, {}
    without compression.
    """

    step: Array
    params: Any
    opt_state: Any
    state: Any
    ema: Any
    key: Array
    bad_steps: Array
    loss_scale: Any
    powersgd: Any = dataclasses.field(default_factory=dict)
