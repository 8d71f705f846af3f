"""AdamW or Muon with warm-up, cosine decay and clipping (CogView section 3.1)."""

import functools
from dataclasses import dataclass
from typing import Any, Literal

import jax
import optax

from cogjax.errors import UserError
from cogjax.parallel.powersgd import PowerSGD
from cogjax.train.moments import MOST_B2, scale_by_adam_16
from cogjax.train.muon import muon


@dataclass(frozen=True)
class OptimConfig:
    """Optimiser settings; the defaults are CogView's.

    name: "adamw", or "muon", which trains the matrices that the task names in
    `matrix_axes` by Muon (orthogonalised momentum, `lr` about 0.02) and the rest by
    AdamW at `adam_lr`. lr: highest learning rate. adam_lr: AdamW's beside Muon. b1, b2:
    AdamW's decay of its moments. weight_decay: of matrices and embeddings. schedule: of
    the rate after the warm-up. warmup: steps if 1 or more, else a fraction of all
    steps. decay: where the cosine ends, a step if above 1, else a fraction of all
    steps; it stays there. final_ratio: the cosine ends at this share of `lr`. clip:
    global gradient norm, 0 is off. decay_embeddings: whether weight decay is of
    embeddings too; of norms and biases it is not, but of those beside Muon, as in
    optax. moments: "16bit" keeps AdamW's in half the memory (`train/moments.py`).
    powersgd: how gradients are compressed between devices.
    """

    name: Literal["adamw", "muon"] = "adamw"
    lr: float = 3e-4
    adam_lr: float = 3e-3
    warmup: float = 0.02
    decay: float = 1.0
    final_ratio: float = 0.1
    b1: float = 0.9
    b2: float = 0.95
    weight_decay: float = 4e-2
    decay_embeddings: bool = True
    clip: float = 1.0
    moments: Literal["float32", "16bit"] = "float32"
    schedule: Literal["cosine", "constant"] = "cosine"
    powersgd: PowerSGD = PowerSGD()

    def __post_init__(self):
        if min(self.lr, self.adam_lr) <= 0:
            raise UserError("config section 'optim': learning rates must be above 0")
        if not (0 <= self.b1 < 1 and 0 <= self.b2 < 1 and 0 <= self.final_ratio):
            raise UserError(
                "config section 'optim': b1 and b2 are 0 to below 1, final_ratio is "
                "0 or more"
            )
        if self.decay <= 0:
            raise UserError("config section 'optim': decay must be above 0")
        if self.moments == "16bit" and self.b2 > MOST_B2:
            raise UserError(
                f"config section 'optim': moments '16bit' are for b2 up to {MOST_B2}, "
                f"got {self.b2}: ten bits do not hold smaller changes"
            )
        if min(self.warmup, self.clip, self.weight_decay) < 0:
            raise UserError(
                "config section 'optim': warmup, clip and weight_decay must not be "
                "negative"
            )
        if self.name == "muon" and self.moments == "16bit":
            raise UserError(
                "config section 'optim': moments '16bit' are AdamW's: set name to "
                "'adamw', or moments to 'float32'"
            )


def make_schedule(config: OptimConfig, total_steps: int) -> optax.Schedule:
    """Learning rate of a step: linear from 0 over the warm-up, then cosine."""
    warmup = config.warmup if config.warmup >= 1 else config.warmup * total_steps
    warmup = max(int(warmup), 1)
    if config.schedule == "constant":
        after = optax.constant_schedule(config.lr)
    else:
        end = config.decay if config.decay > 1 else config.decay * total_steps
        steps = max(int(end) - warmup, 1)
        after = optax.cosine_decay_schedule(config.lr, steps, config.final_ratio)
    rise = optax.linear_schedule(0.0, config.lr, warmup)
    return optax.join_schedules([rise, after], [warmup])


def make_optimizer(
    config: OptimConfig, schedule: optax.Schedule, matrix_axes: Any = None
) -> optax.GradientTransformation:
    """Clipping, then the optimiser; `decay_mask` says what decays.

    matrix_axes: function of the parameters, giving for each leaf None or the
    (input axes, output axes) that make it a matrix; needed for Muon.
    """
    clip = optax.clip_by_global_norm(config.clip) if config.clip else optax.identity()
    if config.name == "muon":
        if matrix_axes is None:
            raise UserError("optim.name 'muon' does not fit this task: choose 'adamw'")
        return optax.chain(clip, _muon(config, schedule, matrix_axes))
    mask = functools.partial(decay_mask, embeddings=config.decay_embeddings)
    if config.moments == "16bit":
        adam = scale_by_adam_16(config.b1, config.b2)
        decay = optax.add_decayed_weights(config.weight_decay, mask)
        return optax.chain(clip, adam, decay, optax.scale_by_learning_rate(schedule))
    adamw = optax.adamw(
        schedule,
        b1=config.b1,
        b2=config.b2,
        weight_decay=config.weight_decay,
        mask=mask,
    )
    return optax.chain(clip, adamw)


def _muon(config: OptimConfig, schedule: optax.Schedule, matrix_axes):
    decays = functools.partial(decay_mask, embeddings=config.decay_embeddings)
    adam = optax.adamw(
        lambda step: schedule(step) * config.adam_lr / config.lr,
        b1=config.b1,
        b2=config.b2,
        weight_decay=config.weight_decay,
        nesterov=True,
    )
    return muon(schedule, adam, matrix_axes, config.weight_decay, decays)


def decay_mask(params, embeddings: bool = True):
    """True for the leaves that decay: all but `bias`, `scale` and single numbers.

    Nor does `null_caption`, a text that LlamaGen has drawn once and does not learn.
    embeddings: whether those named `...embedding` decay.
    """

    def decays(path, leaf):
        name = path[-1].key
        if name in ("bias", "scale", "null_caption") or leaf.ndim == 0:
            return False
        return embeddings or not name.endswith("embedding")

    return jax.tree_util.tree_map_with_path(decays, params)
