"""Denoisers: what a sampler asks for, made of a network, a prompt and thresholds.

A denoiser is a function (z [b, y, x, c], log-SNR [b]) -> estimate of the image, like z,
in [-1, 1]. It closes over arrays inside a program: other weights compile nothing.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from cogjax.ops import diffusion

Denoiser = Callable[[Array, Array], Array]
# (z, log-SNR [b], condition, a tree of arrays [b, ...]) -> what the network predicts.
Network = Callable[[Array, Array, Any], Array]


def guided(
    network: Network,
    prediction: diffusion.Prediction,
    condition: Any,
    null: Any,
    guidance: Array,
) -> Denoiser:
    """Classifier-free guidance: both passes as one batch; no threshold.

    Args:
      condition, null: the prompt's and the empty prompt's trees of arrays [b, ...].
      guidance: [b]; 1 is off, and then still costs both passes.
    """
    both = jax.tree.map(lambda *pair: jnp.concatenate(pair), condition, null)

    def denoise(z, log_snr):
        predicted = network(jnp.tile(z, (2, 1, 1, 1)), jnp.tile(log_snr, 2), both)
        # Its three predictions are affine in one another: any of them may be mixed.
        predicted = diffusion.guide(
            *jnp.split(predicted.astype(jnp.float32), 2), guidance
        )
        return diffusion.to_x0(prediction, predicted, z, log_snr)

    return denoise


def unguided(
    network: Network, prediction: diffusion.Prediction, condition: Any
) -> Denoiser:
    """The network's own estimate; no threshold."""

    def denoise(z, log_snr):
        predicted = network(z, log_snr, condition).astype(jnp.float32)
        return diffusion.to_x0(prediction, predicted, z, log_snr)

    return denoise


def thresholded(denoise: Denoiser, percentile: Array | None = None) -> Denoiser:
    """Estimates kept in [-1, 1]: by a percentile [b] of each image, or by clipping."""

    def keep(z, log_snr):
        x0 = denoise(z, log_snr)
        if percentile is None:
            return diffusion.static_threshold(x0)
        return diffusion.dynamic_threshold(x0, percentile)

    return keep


def with_known(denoise: Denoiser, images: Array, known: Array) -> Denoiser:
    """Estimates that agree with images where these are known: in-painting.

    Deterministic samplers then carry a known pixel along its own noise to its value, so
    that the rest is denoised beside it at the right level.

    Args:
      images: [b, y, x, c] in [-1, 1]; known: bool [b, y, x, 1].
    """
    return lambda z, log_snr: jnp.where(known, images, denoise(z, log_snr))
