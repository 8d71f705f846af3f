"""Mathematics of diffusion: noise schedules, what a network predicts, thresholds.

A noisy image is z = alpha x + sigma noise with alpha^2 + sigma^2 = 1 (variance
preserving). All is written in the log-SNR, log(alpha^2 / sigma^2): high where clean,
low where noisy (Imagen, Saharia et al. 2022, arXiv 2205.11487, section 2 and
appendix A; Kingma et al. 2021). Images are [b, y, x, c] in [-1, 1] and log-SNRs [b].
"""

from typing import Literal

import jax
import jax.numpy as jnp
from jax import Array

Prediction = Literal["eps", "x0", "v"]

# At -33.9, where float32 leaves the cosine at t = 1, x0 = (z - sigma eps) / alpha would
# divide by 4e-8.
LOG_SNR_LIMIT = 20.0
_COSINE_OFFSET = 0.008


def cosine_log_snr(t: Array) -> Array:
    """Log-SNR at times in [0, 1], 0 clean: alpha^2 = cos^2((t + s) / (1 + s) pi / 2).

    Nichol & Dhariwal 2021, equation 17, with s = 0.008; clipped to +-20.
    """
    angle = (t + _COSINE_OFFSET) / (1 + _COSINE_OFFSET) * (jnp.pi / 2)
    # Beyond this angle the clip decides, and the tangent would change its sign.
    angle = jnp.minimum(angle, jnp.arctan(jnp.exp(LOG_SNR_LIMIT / 2)))
    return _clip(-2 * jnp.log(jnp.tan(angle)))


def linear_log_snr(t: Array) -> Array:
    """Log-SNR at times in [0, 1] of betas from 1e-4 to 0.02 in 1,000 steps.

    The continuous form -log(expm1(1e-4 + 10 t^2)); Imagen's for 256 to 1,024 pixels. It
    is within 0.2 of the 1,000 steps from the 50th on, and 0.7 at the cleanest ones.
    """
    return _clip(-jnp.log(jnp.expm1(1e-4 + 10 * jnp.square(t))))


SCHEDULES = {"cosine": cosine_log_snr, "linear": linear_log_snr}


def alpha_sigma(log_snr: Array) -> tuple[Array, Array]:
    """(alpha, sigma) [b, 1, 1, 1] of log-SNRs [b], float32."""
    log_snr = log_snr.astype(jnp.float32)[:, None, None, None]
    return _root_sigmoid(log_snr), _root_sigmoid(-log_snr)


def add_noise(x: Array, noise: Array, log_snr: Array) -> Array:
    """z = alpha x + sigma noise."""
    alpha, sigma = alpha_sigma(log_snr)
    return alpha * x + sigma * noise


def target(prediction: Prediction, x: Array, noise: Array, log_snr: Array) -> Array:
    """What a network is trained to predict: the noise, the image or the velocity.

    v = alpha noise - sigma x (Salimans & Ho 2022).
    """
    if prediction == "eps":
        return noise
    if prediction == "x0":
        return x
    alpha, sigma = alpha_sigma(log_snr)
    return alpha * noise - sigma * x


def of_x0(prediction: Prediction, x0: Array, z: Array, log_snr: Array) -> Array:
    """The prediction that amounts to an image: `to_x0` the other way round."""
    if prediction == "x0":
        return x0
    alpha, sigma = alpha_sigma(log_snr)
    if prediction == "v":
        return (alpha * z - x0) / sigma
    return (z - alpha * x0) / sigma


def to_x0(prediction: Prediction, predicted: Array, z: Array, log_snr: Array) -> Array:
    """The image that a prediction amounts to, float32, not clipped."""
    alpha, sigma = alpha_sigma(log_snr)
    if prediction == "x0":
        return predicted.astype(jnp.float32)
    if prediction == "v":
        return alpha * z - sigma * predicted
    return (z - sigma * predicted) / alpha


def move(z: Array, x0: Array, here: Array, there: Array) -> Array:
    """z [b, y, x, c] from one log-SNR to another along a straight line to x0: DDIM."""
    alpha, sigma = alpha_sigma(here)
    next_alpha, next_sigma = alpha_sigma(there)
    return next_alpha * x0 + next_sigma / sigma * (z - alpha * x0)


def guide(conditional: Array, unconditional: Array, guidance: Array) -> Array:
    """Classifier-free guidance, w c + (1 - w) u; w [b], 1 is off (section 2.2)."""
    weight = guidance[:, None, None, None]
    return weight * conditional + (1 - weight) * unconditional


def static_threshold(x0: Array) -> Array:
    """Clips estimates to [-1, 1] (section 2.3)."""
    return jnp.clip(x0, -1, 1)


def dynamic_threshold(x0: Array, percentile: Array) -> Array:
    """Clips each image to its own percentile s of |x0| and divides by it (2.3).

    Where s is at most 1 that is clipping to [-1, 1].

    Args:
      percentile: [b] in [0, 100]; the paper's figure has 99.5.
    """
    size = jnp.abs(x0.astype(jnp.float32)).reshape(len(x0), -1)
    # Interpolated like NumPy's, whose default is the same.
    s = jax.vmap(jnp.percentile)(size, percentile)
    s = jnp.maximum(s, 1.0)[:, None, None, None]
    return jnp.clip(x0, -s, s) / s


def _root_sigmoid(x: Array) -> Array:
    return jnp.exp(0.5 * jax.nn.log_sigmoid(x))


def _clip(log_snr: Array) -> Array:
    return jnp.clip(log_snr, -LOG_SNR_LIMIT, LOG_SNR_LIMIT)
