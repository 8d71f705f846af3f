"""Turning next-token logits into samples: guidance, temperature, top-k, top-p.

Cut-offs are found without sorting: the k-th largest logit is the highest threshold that
k logits reach, found bit by bit. The draw inverts the distribution function, with one
random number a row. Inside, the rows of a batch are the last axis, as the product with
the output weights leaves them.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

_COLDEST = 1e-30


def guide(conditional: Array, unconditional: Array, scale: float | Array) -> Array:
    """Classifier-free guidance `u + scale * (c - u)` on logits [..., v]."""
    return unconditional + scale * (conditional - unconditional)


def token_probs(
    logits: Array,
    temperature: float | Array,
    top_k: int | Array | None = None,
    top_p: float | Array | None = None,
) -> Array:
    """Probabilities [b, v] that `sample` draws from, float32; arguments as there."""
    probs = _weights(logits.T, temperature, top_k, top_p).T
    return probs / jnp.sum(probs, axis=-1, keepdims=True)


def sample(
    uniforms: Array,
    logits: Array,
    temperature: float | Array,
    top_k: int | Array | None = None,
    top_p: float | Array | None = None,
) -> Array:
    """Draws one token for each row, each by its own random number.

    The order is CogView's: temperature, top-k, top-p. Each row is cut on its own, so
    the result is right for every batch size (CogView's release flattens the batch).

    Args:
      uniforms: [b], in [0, 1); logits: [b, v].
      temperature: above 0.
      top_k: keeps the k largest logits, above 0, and ties with the k-th; None all.
      top_p: keeps the most probable tokens, the fewest whose probability reaches it,
        above 0 and below 1, and ties; None all.

    Returns:
      int32 [b].
    """
    return _invert(_weights(logits.T, temperature, top_k, top_p), uniforms)


def sample_probs(uniforms: Array, probs: Array) -> Array:
    """Draws one token for each row of [b, v], probabilities up to a factor."""
    return _invert(probs.T, uniforms)


def _weights(logits: Array, temperature, top_k, top_p) -> Array:
    """[v, b] -> probabilities up to a factor."""
    logits = logits.astype(jnp.float32)
    # The largest is 0 first, so that no quotient is inf - inf, and no temperature so
    # small that its inverse is none: the limit is the likeliest token.
    logits -= jnp.max(logits, axis=0)
    logits *= 1 / jnp.maximum(temperature, _COLDEST)
    if top_k is not None:
        logits = _cut(logits, lambda kept: jnp.sum(kept, axis=0) >= top_k)
    weights = jnp.exp(logits)
    if top_p is None:
        return weights
    needed = top_p * jnp.sum(weights, axis=0)
    logits = _cut(logits, lambda kept: jnp.sum(kept * weights, axis=0) >= needed)
    return jnp.exp(logits)


def _invert(weights: Array, uniforms: Array) -> Array:
    """The first token at which the running sum of [v, b] exceeds its share."""
    size = len(weights)
    block = max(1, int(size**0.5))
    weights = jnp.pad(weights, ((0, -size % block), (0, 0)))
    blocks = weights.reshape(-1, block, weights.shape[-1])
    # Two steps, the block and then the token in it: sums of few numbers, each short.
    ends = _running_sum(jnp.sum(blocks, axis=1))
    target = uniforms * ends[-1]
    found = _count(ends <= target, len(ends))
    starts = jnp.concatenate([jnp.zeros_like(ends[:1]), ends[:-1]])
    start = jnp.take_along_axis(starts, found[None], axis=0)
    inside = jnp.take_along_axis(blocks, found[None, None], axis=0)[0]
    within = _count(start + _running_sum(inside) <= target, block)
    token = found * block + within
    # Rounding may step on a token that cannot be drawn, at the end of a block.
    drawable = jnp.take_along_axis(weights, token[None], axis=0)[0] > 0
    return jnp.where(drawable, token, jnp.argmax(weights, axis=0)).astype(jnp.int32)


def _running_sum(x: Array) -> Array:
    """Over axis 0 of [s, b]: a product, which all backends do faster than a scan."""
    return jnp.matmul(jnp.tri(len(x), dtype=x.dtype), x, precision="highest")


def _count(passed: Array, size: int) -> Array:
    return jnp.minimum(jnp.sum(passed, axis=0), size - 1)


def _cut(logits: Array, enough: Callable[[Array], Array]) -> Array:
    """Hides what lies below the highest threshold that keeps `enough`, [v, b]."""
    bits = jax.lax.bitcast_convert_type(logits.astype(jnp.float32), jnp.uint32)
    sign = jnp.uint32(1 << 31)
    # Unsigned integers in the order of the floats.
    order = jnp.where(bits >= sign, ~bits, bits | sign)

    def step(i, threshold):
        higher = threshold | (sign >> i.astype(jnp.uint32))
        return jnp.where(enough(order >= higher), higher, threshold)

    start = jnp.zeros(logits.shape[1:], jnp.uint32)
    threshold = jax.lax.fori_loop(0, 32, step, start)
    return jnp.where(order >= threshold, logits, -jnp.inf)
