"""The programs of one stage of a cascade: from noise, or a noisy image, to images."""

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from cogjax.families.imagen.denoising import enlarged, without
from cogjax.models.registry import network_of
from cogjax.nn.unet import Text
from cogjax.ops import diffusion
from cogjax.sampling.diffusion import denoisers, samplers
from cogjax.sampling.diffusion.denoisers import Denoiser
from cogjax.sampling.diffusion.samplers import State
from cogjax.sampling.diffusion.settings import CascadeSampler


@dataclass(frozen=True)
class StageProgram:
    """What is static: other weights, texts and numbers compile nothing.

    config: of the network. prediction, schedule, augmentation: as it was trained, the
    last "" for the base.
    """

    config: Any
    prediction: str
    schedule: str
    augmentation: str
    steps: int
    method: str
    guided: bool
    dynamic: bool

    @property
    def shape(self) -> tuple[int, int, int]:
        """(y, x, c) of an image."""
        return self.config.image_size, self.config.image_size, 3


class Numbers(NamedTuple):
    """As of `CascadeSampler`; [b], but gamma is one for all."""

    guidance: Array
    percentile: Array
    augmentation: Array
    gamma: Array

    @classmethod
    def of(cls, sampler: CascadeSampler, count: int) -> "Numbers":
        """Those of a stage's sampler, for `count` images."""
        names = cls._fields[:-1]
        each = (np.full(count, getattr(sampler, n), np.float32) for n in names)
        return cls(*each, np.float32(sampler.gamma))


class Inputs(NamedTuple):
    """What a stage makes its images of.

    small: [b, y', x', 3] in [-1, 1], of the stage before, None for the base. negative:
    what guidance leads away from, None: no text. image:
    [b, y, x, 3] in [-1, 1], None without one. keep: bool [b, y, x, 1], where the image
    stays. strength: time at which the noisy image is the start; None is noise alone.
    """

    text: Text
    numbers: Numbers
    small: Array | None = None
    negative: Text | None = None
    image: Array | None = None
    keep: Array | None = None
    strength: Array | None = None


@functools.partial(jax.jit, static_argnums=0)
def draw(stage: StageProgram, params: Any, keys: Array, inputs: Inputs) -> Array:
    """Images [b, y, x, 3] in [-1, 1] of keys [b]."""
    state = _start(stage, keys, inputs)
    denoise, log_snrs = _denoiser(stage, params, keys, inputs), _grid(stage, inputs)
    gamma = inputs.numbers.gamma
    return samplers.sample(denoise, state, log_snrs, stage.method, gamma)


@functools.partial(jax.jit, static_argnums=0)
def begin(stage: StageProgram, keys: Array, inputs: Inputs) -> State:
    """The start of `draw`, whose steps are taken a few at a time."""
    return _start(stage, keys, inputs)


@functools.partial(jax.jit, static_argnums=(0, 4))
def go_on(
    stage: StageProgram, params: Any, inputs: Inputs, state: State, count: int
) -> State:
    """`count` steps more; a stage has one fewer than its sampler's steps."""
    denoise = _denoiser(stage, params, state.keys, inputs)
    settings = count, stage.method, inputs.numbers.gamma
    return samplers.advance(denoise, state, _grid(stage, inputs), *settings)


@functools.partial(jax.jit, static_argnums=0)
def end(stage: StageProgram, params: Any, inputs: Inputs, state: State) -> Array:
    """The images, as of `draw`."""
    denoise = _denoiser(stage, params, state.keys, inputs)
    return samplers.finish(denoise, state, _grid(stage, inputs))


@functools.partial(jax.jit, static_argnums=0)
def watch(
    stage: StageProgram, params: Any, key: Array, image: Array, time: Array, given: Any
) -> dict[str, Array]:
    """Weights over a text's tokens of each layer that reads them, where it denoises.

    key: of the noise. image: [1, y, x, 3] in [-1, 1]; time: 0 to 1, of all noise.
    given: (text of one row, the image of the stage before or None).

    Returns {name of the layer: float32 [n, places, t]}; places are squares.
    """
    text, small = given
    keys, found = key[None], {}
    log_snr = diffusion.SCHEDULES[stage.schedule](time[None])
    noise = jax.random.normal(key, stage.shape)[None]
    z = diffusion.add_noise(image, noise, log_snr)
    extra = () if small is None else beside(stage, keys, small, jnp.zeros(1))

    def note(call, args, kwargs, context):
        weights = call(*args, **kwargs)
        if context.method_name == "weights" and context.module.over != "image":
            name = ".".join(context.module.path)
            found[name] = weights[0, ..., -text.mask.shape[1] :]
        return weights

    with nn.intercept_methods(note):
        network_of(stage.config).apply({"params": params}, z, log_snr, text, *extra)
    return found


def beside(
    stage: StageProgram, keys: Array, small: Array, level: Array
) -> tuple[Array, Array]:
    """What super-resolution reads: (small images enlarged, with noise; log-SNRs [b]).

    level: [b], times of the augmentation's schedule.
    """
    log_snr = diffusion.SCHEDULES[stage.augmentation](level)
    draw_noise = lambda key: jax.random.normal(  # noqa: E731
        jax.random.fold_in(key, 2**31), stage.shape
    )
    large = enlarged(small, stage.config.image_size)
    return diffusion.add_noise(large, jax.vmap(draw_noise)(keys), log_snr), log_snr


def _grid(stage: StageProgram, inputs: Inputs) -> Array:
    start = 1.0 if inputs.strength is None else inputs.strength
    return samplers.log_snr_grid(stage.schedule, stage.steps, start)


def _start(stage: StageProgram, keys: Array, inputs: Inputs) -> State:
    if inputs.strength is None:
        return samplers.start(keys, stage.shape)
    return samplers.start_from(keys, inputs.image, _grid(stage, inputs)[0])


def _denoiser(stage: StageProgram, params, keys: Array, inputs: Inputs) -> Denoiser:
    network, numbers, text = network_of(stage.config), inputs.numbers, inputs.text
    small = ()
    if inputs.small is not None:
        small = beside(stage, keys, inputs.small, numbers.augmentation)

    def predict(z, log_snr, condition):
        text, *rest = condition
        return network.apply({"params": params}, z, log_snr, text, *rest)

    if stage.guided:
        null = inputs.negative
        if null is None:
            null = without(text, jnp.ones(len(keys), bool))
        both = (text, *small), (null, *small)
        denoise = denoisers.guided(predict, stage.prediction, *both, numbers.guidance)
    else:
        denoise = denoisers.unguided(predict, stage.prediction, (text, *small))
    percentile = numbers.percentile if stage.dynamic else None
    denoise = denoisers.thresholded(denoise, percentile)
    if inputs.keep is None:
        return denoise
    return denoisers.with_known(denoise, inputs.image, inputs.keep)
