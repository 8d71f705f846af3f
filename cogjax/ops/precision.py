"""Precision-bottleneck relaxation (PB-Relax) as pure functions (CogView, section 2.4).

Two places overflow first in 16-bit training: the squares inside LayerNorm and the
query-key products before softmax. Both relaxations are the identity in exact
arithmetic; only the range of the intermediates changes.
"""

import jax
import jax.numpy as jnp
from jax import Array

NORM_SCOPES = ("tensor", "sample", "token", "none")


def relaxed_layer_norm(
    x: Array, scale: Array, bias: Array, *, epsilon: float = 1e-5, scope: str = "token"
) -> Array:
    """LayerNorm over the last axis of `x / c` with `c = max|x| / 8` held constant.

    LayerNorm ignores the scale of its input, so dividing first only bounds the
    squares at 64 and turns epsilon into `epsilon * max|x|^2 / 64`.

    Args:
      x: [..., d], any float dtype. `scale`, `bias`: [d].
      scope: what the maximum is taken over. "tensor" is CogView's own code (the
        result then depends on the rest of the batch and on the padding), "sample"
        everything but the leading axis, "token" the last axis only (independent of
        batch and of cached or full decoding), "none" the plain LayerNorm.

    Returns:
      [..., d] in the dtype of `x`; the mean and variance accumulate in float32.
    """
    if scope not in NORM_SCOPES:
        raise ValueError(f"scope is {scope!r}, expected one of {NORM_SCOPES}")
    if scope != "none":
        axes = {
            "tensor": tuple(range(x.ndim)),
            "sample": tuple(range(1, x.ndim)),
            "token": (-1,),
        }[scope]
        peak = jax.lax.stop_gradient(jnp.max(jnp.abs(x), axis=axes, keepdims=True))
        # An all-zero group has no scale to remove: dividing by 1 keeps it zero.
        x = x / jnp.where(peak > 0, peak / 8, 1).astype(x.dtype)
    mean = jnp.mean(x, axis=-1, keepdims=True, dtype=jnp.float32).astype(x.dtype)
    centred = x - mean
    # The squares are taken in the dtype of x: this is the product that overflows in
    # fp16 when the input was not rescaled.
    variance = jnp.mean(jnp.square(centred), axis=-1, keepdims=True, dtype=jnp.float32)
    normed = centred * jax.lax.rsqrt(variance + epsilon).astype(x.dtype)
    return normed * scale.astype(x.dtype) + bias.astype(x.dtype)


def scale_query(query: Array, alpha: float) -> Array:
    """Query [..., h] over alpha * sqrt(h), for `relaxed_softmax` of its scores."""
    # Parity: the query is divided before the product, as CogView does, so the product
    # itself cannot overflow. tests/ops/test_attention.py::test_scale_order
    return query / jnp.asarray(alpha * query.shape[-1] ** 0.5, query.dtype)


def relaxed_softmax(scores: Array, alpha: float = 32.0) -> Array:
    """Softmax over the last axis of scores that were divided by `alpha` beforehand.

    Equals `softmax(alpha * scores)`; the row maximum is removed while the numbers are
    still small, so `alpha * scores` itself is never formed (CogView eq. 3).

    Args:
      scores: [..., s], already divided by `alpha`; masked entries hold a large
        negative number.

    Returns:
      [..., s], rows sum to 1, in the dtype of `scores`.
    """
    peak = jax.lax.stop_gradient(jnp.max(scores, axis=-1, keepdims=True))
    return jax.nn.softmax((scores - peak) * alpha, axis=-1)


def shrink_gradient(x: Array, alpha: float) -> Array:
    """Returns `x` unchanged while its gradient is multiplied by `alpha`.

    Applied to the embedding output with alpha = 0.1, it keeps the embedding gradients
    of 16-bit training in range (CogView, section 2.4).
    """
    return x * alpha + jax.lax.stop_gradient(x * (1 - alpha))
