"""Losses on arrays, in natural-log nats."""

import functools

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


def contrastive(logits: Array, same: Array) -> Array:
    """Symmetric InfoNCE (CLIP, Radford et al. 2021, section 2.3): a float32 scalar.

    The mean of two cross-entropies: of each image among all captions, and of each
    caption among all images.

    Args:
      logits: [n, n], of images and captions, pair i in row i and column i.
      same: bool [n, n], symmetric, True on the diagonal: captions that read alike.
        Theirs are the right answers too, each with an equal share, and are not pushed
        apart.
    """
    logits = logits.astype(jnp.float32)
    of_images = _entropies(logits, same)
    of_texts = _entropies(logits.T, same)
    return jnp.mean(of_images + of_texts) / 2


def _entropies(logits: Array, same: Array) -> Array:
    """Cross-entropy of each row [n] with equal shares of what is `same`."""
    wanted = same / jnp.sum(same, axis=1, keepdims=True)
    return -jnp.sum(wanted * jax.nn.log_softmax(logits, axis=1), axis=1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def bounded_exp(x: Array, most: float) -> Array:
    """min(exp(x), most). At the bound a gradient passes only if it leads below.

    So a descent stays beside the bound, and leaves it as soon as the loss asks for it:
    what CLIP reaches by clipping the parameter after each update.
    """
    return jnp.minimum(jnp.exp(x), most)


def _bounded_forward(x: Array, most: float) -> tuple[Array, Array]:
    return bounded_exp(x, most), x


def _bounded_backward(most: float, x: Array, gradient: Array) -> tuple[Array]:
    inside = jnp.exp(x) < most
    slope = bounded_exp(x, most) * gradient
    return (jnp.where(inside, slope, jnp.maximum(slope, 0)),)


bounded_exp.defvjp(_bounded_forward, _bounded_backward)


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
