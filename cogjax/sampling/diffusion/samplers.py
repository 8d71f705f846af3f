"""Samplers: noise to images along a grid of log-SNRs, one `lax.scan`.

    ddpm      ancestral, with stochasticity gamma (Imagen, equation 6 and below)
    ddim      deterministic, first order (Song et al. 2021)
    dpmpp2m   DPM-Solver++, second order by the last step's estimate (Lu et al. 2022)
    heun      second order by a second call of the denoiser, a trapezoid (Lu et al.)

Only the method and the number of steps are static. Image i of a batch is a function of
its own key.
"""

import jax
import jax.numpy as jnp
from jax import Array

from cogjax.ops.diffusion import SCHEDULES, alpha_sigma
from cogjax.sampling.diffusion.denoisers import Denoiser
from cogjax.sampling.diffusion.settings import Method

# Log-SNR where sampling starts, and the time where it ends.
_NOISIEST, _CLEANEST = -10.0, 0.01


def log_snr_grid(schedule: str, steps: int) -> Array:
    """Log-SNRs [steps] at which a sampler calls its denoiser, evenly from -10.

    With even times the first of a few steps would span half of all noise levels, on one
    estimate that knows nothing, and large patches of an image would come out grey.
    """
    return jnp.linspace(_NOISIEST, SCHEDULES[schedule](jnp.array(_CLEANEST)), steps)


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
    z = integrate(denoise, _noise(keys, 0, shape), keys, log_snrs, method, gamma)
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

    steps = len(log_snrs) - 1
    last = jnp.concatenate([log_snrs[:1] - 1, log_snrs])[:steps]
    places = (last, log_snrs[:-1], log_snrs[1:])
    start = (z, jnp.zeros_like(z))
    index = jnp.arange(steps)
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
