"""Samplers: noise to images along a grid of log-SNRs, one `lax.scan`.

    ddpm      ancestral, with stochasticity gamma (Imagen, equation 6 and below)
    ddim      deterministic, first order (Song et al. 2021)
    dpmpp2m   DPM-Solver++, second order by the last step's estimate (Lu et al. 2022)
    heun      second order by a second call of the denoiser (Karras et al. 2022)

Only the method and the number of steps are static. Image i of a batch is a function of
its own key.
"""

from typing import Literal

import jax
import jax.numpy as jnp
from jax import Array

from cogjax.ops.diffusion import SCHEDULES, add_noise, alpha_sigma
from cogjax.sampling.diffusion.denoisers import Denoiser

Method = Literal["ddpm", "ddim", "dpmpp2m", "heun"]


def log_snr_grid(schedule: str, steps: int, start: float | Array = 1.0) -> Array:
    """Log-SNRs [steps] of evenly spaced times from `start` down to start / steps."""
    times = start * (1 - jnp.arange(steps) / steps)
    return SCHEDULES[schedule](times)


def sample(
    denoise: Denoiser,
    keys: Array,
    shape: tuple[int, int, int],
    log_snrs: Array,
    method: Method = "dpmpp2m",
    gamma: float | Array = 0.0,
) -> Array:
    """Images [b, y, x, c] of keys [b], as the denoiser's last estimate.

    Args:
      shape: (y, x, c). log_snrs: rising, one a call of the denoiser (`heun` calls it
        twice a step but the last).
      gamma: of `ddpm`, in [0, 1]: 0 adds the least noise, 1 the most.
    """
    noise = _noise(keys, 0, shape)
    return denoise_from(denoise, noise, keys, log_snrs, method, gamma)


def edit(
    denoise: Denoiser,
    keys: Array,
    images: Array,
    log_snrs: Array,
    method: Method = "dpmpp2m",
    gamma: float | Array = 0.0,
) -> Array:
    """Images [b, y, x, c] that keep what of `images` survives noise at log_snrs[0]."""
    first = jnp.full(len(images), log_snrs[0])
    z = add_noise(images, _noise(keys, 0, images.shape[1:]), first)
    return denoise_from(denoise, z, keys, log_snrs, method, gamma)


def denoise_from(
    denoise: Denoiser,
    z: Array,
    keys: Array,
    log_snrs: Array,
    method: Method,
    gamma: float | Array = 0.0,
) -> Array:
    """The estimate behind noisy images z at log_snrs[0], after all steps."""
    z = integrate(denoise, z, keys, log_snrs, method, gamma)
    return denoise(z, jnp.full(len(z), log_snrs[-1]))


def integrate(
    denoise: Denoiser,
    z: Array,
    keys: Array,
    log_snrs: Array,
    method: Method,
    gamma: float | Array = 0.0,
) -> Array:
    """Noisy images z at log_snrs[0], carried to log_snrs[-1]."""

    def step(carry, now):
        z, before = carry
        index, (last, here, there) = now
        x0 = denoise(z, jnp.full(len(z), here))
        if method == "ddpm":
            noise = _noise(keys, index + 1, z.shape[1:])
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

    last = jnp.concatenate([log_snrs[:1] - 1, log_snrs[:-2]])
    places = (last, log_snrs[:-1], log_snrs[1:])
    start = (z, jnp.zeros_like(z))
    index = jnp.arange(len(log_snrs) - 1)
    return jax.lax.scan(step, start, (index, places))[0][0]


def _move(z: Array, x0: Array, here: Array, there: Array) -> Array:
    """Along a straight line to x0: DDIM, and DPM-Solver++ with an x0 that leans."""
    alpha, sigma = _scalars(here)
    next_alpha, next_sigma = _scalars(there)
    return next_alpha * x0 + next_sigma / sigma * (z - alpha * x0)


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
    """Trapezoid in z / alpha over sigma / alpha, where the path is x0 + slope * it."""
    alpha, sigma = _scalars(here)
    next_alpha, next_sigma = _scalars(there)
    guess = _move(z, x0, here, there)
    again = denoise(guess, jnp.full(len(z), there))
    slope = (z - alpha * x0) / sigma
    next_slope = (guess - next_alpha * again) / next_sigma
    step = next_sigma / next_alpha - sigma / alpha
    return next_alpha * (z / alpha + step * (slope + next_slope) / 2)


def _scalars(log_snr: Array) -> tuple[Array, Array]:
    alpha, sigma = alpha_sigma(log_snr[None])
    return alpha[0, 0, 0, 0], sigma[0, 0, 0, 0]


def _noise(keys: Array, index: Array | int, shape: tuple[int, ...]) -> Array:
    """float32 [b, *shape]: each image's own, whatever its batch."""
    draw = lambda key: jax.random.normal(jax.random.fold_in(key, index), shape)  # noqa: E731
    return jax.vmap(draw)(keys)
