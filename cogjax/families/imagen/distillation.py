"""Distillation of a stage to few steps: one step of the student is several of DDIM's.

The teacher, guided, goes from one log-SNR of the student's grid to the next in even
steps; the student learns the estimate by which a single step ends there. With two steps
that is progressive distillation (Salimans & Ho 2022, arXiv 2202.00512, algorithm 2);
guidance goes into the student as in Meng et al. 2022 (2210.03142), at one value. Imagen
itself is not distilled.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array

from cogjax.config import check_ranges
from cogjax.families.imagen.denoising import (
    DenoisingConfig,
    DenoisingTask,
    Noisy,
    without,
)
from cogjax.ops import diffusion
from cogjax.sampling.diffusion import denoisers
from cogjax.sampling.diffusion.samplers import log_snr_grid


@dataclass(frozen=True)
class DistillationConfig(DenoisingConfig):
    """The objective of a student, whose teacher has the same prediction and schedule.

    steps: calls of the student when it samples. substeps: of the teacher's for one.
    guidance: the teacher's; the student has none. The last call gives the teacher's
    own estimate.
    """

    text_dropout: float = 0.0
    steps: int = 8
    substeps: int = 4
    guidance: float = 3.0

    def __post_init__(self):
        super().__post_init__()
        check_ranges(self, steps=(2, 1024), substeps=(1, 1024), guidance=(0, 100))

    @property
    def teacher_steps(self) -> int:
        """Calls of the teacher, if it sampled on its grid."""
        return (self.steps - 1) * self.substeps + 1


class DistillingTask(DenoisingTask):
    """Over the batches of `DenoisingTask`; the state holds the teacher's parameters."""

    def init(self, key: Array):
        """(parameters, {"teacher": of zeros, to be replaced})."""
        params, _ = super().init(key)
        return params, {"teacher": jax.tree.map(jnp.zeros_like, params)}

    def loss(self, params, state, batch, key: Array):
        """Mean squared error of the prediction at random steps of the student."""
        keys = jax.random.split(key, 2)
        index = jax.random.randint(keys[0], (len(batch["image"]),), 0, self._steps)
        error = self._distance(params, state["teacher"], batch, index, keys[1])
        return error, (state, {})

    def eval_metrics(self, params, state, batch, key: Array):
        """The same over all steps, as many images each."""
        index = jnp.arange(len(batch["image"])) % self._steps
        error = self._distance(params, state["teacher"], batch, index, key)
        return {"loss": error}

    @property
    def _steps(self) -> int:
        return self.config.steps

    def _distance(self, params, teacher, batch, index: Array, key: Array) -> Array:
        """index: [b], calls of the student before this one."""
        cfg = self.config
        grid = log_snr_grid(cfg.schedule, cfg.steps)
        here, is_last = grid[index], index == cfg.steps - 1
        # Behind the last there is none: any other log-SNR keeps the numbers finite.
        there = jnp.where(
            is_last, here + 1, grid[jnp.minimum(index + 1, len(grid) - 1)]
        )
        made = self.noisy(batch, here, key, cfg.text_dropout)
        denoise = self._teacher(jax.lax.stop_gradient(teacher), made)
        first = denoise(made.z, here)
        x0 = several_as_one(denoise, first, made.z, (here, there), cfg.substeps)
        x0 = jnp.where(is_last[:, None, None, None], first, x0)
        wanted = diffusion.of_x0(cfg.prediction, x0, made.z, here)
        predicted = self.predict(params, made.z, here, made.condition)
        return jnp.mean(jnp.square(predicted - wanted))

    def _teacher(self, params, made: Noisy) -> denoisers.Denoiser:
        cfg, (text, *small) = self.config, made.condition

        def predict(z, log_snr, condition):
            return self.predict(params, z, log_snr, condition)

        if cfg.guidance == 1:
            found = denoisers.unguided(predict, cfg.prediction, made.condition)
            return denoisers.thresholded(found)
        none = without(text, jnp.ones(len(made.z), bool)), *small
        guidance = jnp.full(len(made.z), cfg.guidance)
        both = made.condition, none
        found = denoisers.guided(predict, cfg.prediction, *both, guidance)
        return denoisers.thresholded(found)


def several_as_one(
    denoise: denoisers.Denoiser,
    first: Array,
    z: Array,
    places: tuple[Array, Array],
    count: int,
) -> Array:
    """The x0 of one step of DDIM that ends where `count` even steps of it end.

    A step adds x0 times the growth of alpha / sigma to z / sigma, so it is the mean of
    the estimates, weighed by their growths. A difference of images would lose digits
    where log-SNRs are close.

    first: the estimate of `denoise` for z. places: log-SNRs [b] from and to.
    """
    here, there = places
    each = (there - here) / count

    def weight(index):
        """Growth of alpha / sigma in a step, of that in all: [b, 1, 1, 1]."""
        share = jnp.expm1(each / 2) / jnp.expm1(count * each / 2)
        return (jnp.exp(index * each / 2) * share)[:, None, None, None]

    def step(carry, index):
        now, x0, mean = carry
        start = here + index * each
        now = diffusion.move(now, x0, start - each, start)
        x0 = denoise(now, start)
        return (now, x0, mean + weight(index) * x0), None

    start = z, first, weight(0) * first
    (_, _, mean), _ = jax.lax.scan(step, start, jnp.arange(1, count))
    return mean
