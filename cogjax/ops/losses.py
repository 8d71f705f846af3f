"""Losses on arrays, in natural-log nats."""

import jax
import jax.numpy as jnp
from jax import Array


def token_losses(logits: Array, targets: Array) -> Array:
    """Cross-entropy a token: logits [..., v], targets int [...] -> float32 [...]."""
    logits = logits.astype(jnp.float32)
    picked = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    return jax.nn.logsumexp(logits, axis=-1) - picked


def weighted_mean(values: Array, weights: Array) -> Array:
    """Returns sum(values * weights) / sum(weights), 0 where all weights are 0."""
    total = jnp.sum(weights)
    return jnp.sum(values * weights) / jnp.where(total > 0, total, 1)


def psnr(mse: Array) -> Array:
    """Peak signal-to-noise ratio in dB of a mean squared error on pixels in [0, 1]."""
    return -10 * jnp.log10(jnp.maximum(mse, 1e-10))


def shrink_pixels(pixels: Array) -> Array:
    """[0, 1] -> [0.1, 0.9], where the logit is finite: DALL-E's appendix A.3."""
    return 0.8 * pixels + 0.1


def logit_laplace(pixels: Array, mean: Array, log_scale: Array) -> Array:
    """DALL-E's negative log-likelihood of pixels: appendix A.3, nats a value.

    A Laplace distribution of logit(x), whose support is that of x: pixels [...] in
    [0, 1] become x = 0.8 p + 0.1. mean, log_scale: [...], of logit(x), ln b.
    """
    x = shrink_pixels(pixels)
    logit = jnp.log(x) - jnp.log1p(-x)
    distance = jnp.abs(logit - mean) * jnp.exp(-log_scale)
    return jnp.log(2.0) + log_scale + jnp.log(x) + jnp.log1p(-x) + distance


def from_logit_laplace(mean: Array) -> Array:
    """The pixels that `logit_laplace` finds likeliest for a mean; not clipped."""
    return (jax.nn.sigmoid(mean) - 0.1) / 0.8
