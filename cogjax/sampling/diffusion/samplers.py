"""Samplers: noise to images along a grid of log-SNRs, one `lax.scan`.

    ddpm      ancestral, with stochasticity gamma (Imagen, equation 6 and below)
    ddim      deterministic, first order (Song et al. 2021)
    dpmpp2m   DPM-Solver++, second order by the last step's estimate (Lu et al. 2022)
    heun      second order by a second call of the denoiser, a trapezoid (Lu et al.)

Only the method and the number of steps are static. Image i of a batch is a function of
its own key. From `start` or `start_from`, `sample` does all steps; `advance` does a few
and `finish` the last.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from cogjax.ops.diffusion import SCHEDULES, add_noise, alpha_sigma, move
from cogjax.sampling.diffusion.denoisers import Denoiser
from cogjax.sampling.diffusion.settings import Method

# Log-SNR where sampling starts, and the time where it ends.
_NOISIEST, _CLEANEST = -10.0, 0.01


class State(NamedTuple):
    """Images on their way.

    z: noisy, [b, y, x, c]. estimate: the denoiser's last of them, zeros before the
    first. step: int32, how many steps are done. keys: [b].
    """

    z: Array
    estimate: Array
    step: Array
    keys: Array


def log_snr_grid(schedule: str, steps: int, start: float | Array = 1.0) -> Array:
    """Log-SNRs [steps] at which a sampler calls its denoiser, evenly from -10.

    start: time where they begin, 0.05 to 1; below 1 for noisy images that are given.
    With even times the first of a few steps would span half of all noise levels, on one
    estimate that knows nothing, and large patches of an image would come out grey.
    """
    log_snr = SCHEDULES[schedule]
    first = jnp.maximum(log_snr(jnp.asarray(start)), _NOISIEST)
    return jnp.linspace(first, log_snr(jnp.array(_CLEANEST)), steps)


def sample(
    denoise: Denoiser,
    state: State,
    log_snrs: Array,
    method: Method = "dpmpp2m",
    gamma: float | Array = 0.0,
) -> Array:
    """Images [b, y, x, c], as the denoiser's last estimate.

    Args:
      state: as it starts. log_snrs: rising, one a call of the denoiser (`heun` calls it
        twice a step but the last).
      gamma: of `ddpm`, in [0, 1]: 0 adds the least noise, 1 the most.
    """
    if method == "heun":  # Whose steps call the denoiser twice.
        state = advance(denoise, state, log_snrs, len(log_snrs) - 1, method, gamma)
        return finish(denoise, state, log_snrs)
    # The last estimate is of a step to where it is: the program has one network, not a
    # second one behind the loop, and compiles in nearly half the time.
    ends = jnp.append(log_snrs, log_snrs[-1])
    return advance(denoise, state, ends, len(log_snrs), method, gamma).estimate


def start(keys: Array, shape: tuple[int, int, int]) -> State:
    """Noise (y, x, c) of keys [b]."""
    noise = _noise(keys, 0, shape)
    return State(noise, jnp.zeros_like(noise), jnp.int32(0), keys)


def start_from(keys: Array, images: Array, log_snr: Array) -> State:
    """Images [b, y, x, c] in [-1, 1] with noise added, at a log-SNR."""
    state = start(keys, images.shape[1:])
    noisy = add_noise(images, state.z, jnp.full(len(images), log_snr))
    return state._replace(z=noisy)


def finish(denoise: Denoiser, state: State, log_snrs: Array) -> Array:
    """The denoiser's estimate of images that all steps were done of."""
    return denoise(state.z, jnp.full(len(state.z), log_snrs[-1]))


def advance(
    denoise: Denoiser,
    state: State,
    log_snrs: Array,
    count: int,
    method: Method,
    gamma: float | Array = 0.0,
) -> State:
    """Images `count` steps further on log_snrs, of which there are one fewer."""

    def step(carry, now):
        z, before = carry
        index, (last, here, there) = now
        x0 = denoise(z, jnp.full(len(z), here))
        if method == "ddpm":
            noise = _noise(state.keys, index + 1, z.shape[1:])
            z = _ancestral(z, x0, noise, (here, there), gamma)
        elif method == "heun":
            z = _heun(denoise, z, x0, here, there)
        elif method == "dpmpp2m":
            # No step came before the first one: there `last` is infinitely far.
            lean = jnp.where(index == 0, 0, (there - here) / (2 * (here - last)))
            z = _move(z, x0 + lean * (x0 - before), here, there)
        else:
            z = _move(z, x0, here, there)
        return (z, x0), None

    index = state.step + jnp.arange(count)
    before = jnp.concatenate([log_snrs[:1] - 1, log_snrs])
    places = (before[index], log_snrs[index], log_snrs[index + 1])
    z, estimate = jax.lax.scan(step, state[:2], (index, places))[0]
    return State(z, estimate, state.step + count, state.keys)


def _move(z: Array, x0: Array, here: Array, there: Array) -> Array:
    """DDIM, and DPM-Solver++ with an x0 that leans; log-SNRs of all images."""
    return move(z, x0, here[None], there[None])


def _ancestral(z, x0, noise, places, gamma):
    here, there = places
    alpha, sigma = _scalars(here)
    next_alpha, next_sigma = _scalars(there)
    # 1 - e^{lambda_t - lambda_s}, without cancellation.
    gone = -jnp.expm1(here - there)
    mean = (1 - gone) * next_alpha / alpha * z + gone * next_alpha * x0
    # Between the posterior's and the forward process's variance, as logarithms.
    spread = next_sigma ** (1 - gamma) * sigma**gamma
    return mean + jnp.sqrt(gone) * spread * noise


def _heun(denoise, z, x0, here, there):
    """A trapezoid in the estimate: half of the one here, half of the one there.

    In sigma / alpha, where Karras et al. take it, the first steps are thousands long
    and multiply every error of an estimate as much.
    """
    again = denoise(_move(z, x0, here, there), jnp.full(len(z), there))
    return _move(z, (x0 + again) / 2, here, there)


def _scalars(log_snr: Array) -> tuple[Array, Array]:
    alpha, sigma = alpha_sigma(log_snr[None])
    return alpha[0, 0, 0, 0], sigma[0, 0, 0, 0]


def _noise(keys: Array, index: Array | int, shape: tuple[int, ...]) -> Array:
    """float32 [b, *shape]: each image's own, whatever its batch."""
    draw = lambda key: jax.random.normal(jax.random.fold_in(key, index), shape)  # noqa: E731
    return jax.vmap(draw)(keys)
