"""Dense and causal attention, and the padding of a row in a mask."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from cogjax.ops.fused_attention import (
    Implementation,
    choose,
    cudnn_causal,
    splash_causal,
)
from cogjax.ops.precision import relaxed_softmax, scale_query


def attention(
    query: Array, key: Array, value: Array, mask: Array, *, alpha: float = 32.0
) -> Array:
    """PB-Relax attention: the scores stay `alpha` times smaller until softmax.

    Args:
      query: [b, t, n, h].
      key, value: [b, s, n, h].
      mask: bool, broadcastable to [b, t, s]; True where a query may look.
      alpha: relaxation constant; 1 is ordinary attention (CogView eq. 3 uses 32).

    Returns:
      [b, t, n, h] in the dtype of `query`.
    """
    probs = attention_weights(query, key, mask, alpha=alpha)
    return jnp.einsum("bnts,bsnh->btnh", probs, value)


def attention_weights(
    query: Array, key: Array, mask: Array, *, alpha: float = 32.0
) -> Array:
    """How much of each value `attention` takes: [b, n, t, s], rows sum to 1."""
    scores = jnp.einsum("btnh,bsnh->bnts", scale_query(query, alpha), key)  # [b,n,t,s]
    return relaxed_softmax(hide(scores, mask[:, None]), alpha)


def causal_attention(
    query: Array,
    key: Array,
    value: Array,
    *,
    alpha: float = 32.0,
    chunk: int = 192,
    implementation: Implementation = "auto",
) -> Array:
    """PB-Relax attention of each position to itself and those before it.

    Equals `attention` under a causal mask. In "xla", `chunk` queries at a time see only
    the keys up to the last of them, which leaves out almost half of the scores. There
    is a gradient in reverse mode only.

    Args:
      query, key, value: [b, t, n, h].
      implementation: see `ops/fused_attention.py`.

    Returns:
      [b, t, n, h] in the dtype of `query`.

    Raises:
      ValueError: the implementation is not for this platform or dtype.
    """
    kernel = choose(implementation, query.dtype, causal=True)
    if kernel == "splash":
        return splash_causal(query, key, value)
    if kernel == "cudnn":
        return cudnn_causal(query, key, value)
    # Heads first, once: the slices are then in the order of the products.
    arrays = (x.swapaxes(1, 2) for x in (query, key, value))
    return _causal(*arrays, alpha, chunk).swapaxes(1, 2)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _causal(query: Array, key: Array, value: Array, alpha: float, chunk: int) -> Array:
    """`causal_attention` of [b, n, t, h].

    The gradient computes the weights again: that takes less time, and far less memory,
    than to write and read them.
    """
    return _causal_forward(query, key, value, alpha, chunk)[0]


def _causal_forward(query, key, value, alpha, chunk):
    out, norms = [], []
    for at, seen, visible in _parts(query.shape[2], chunk):
        scores = _scores(query[:, :, at], key[:, :, seen], alpha)
        scores = hide(scores, visible)
        peak = jnp.max(scores, axis=-1, keepdims=True)  # [b, n, chunk, 1]
        weights = jnp.exp((scores - peak) * alpha)
        total = jnp.sum(weights, axis=-1, keepdims=True)
        weights = weights.astype(value.dtype)
        part = jnp.einsum("bnts,bnsh->bnth", weights, value[:, :, seen])
        out.append((part / total).astype(query.dtype))
        norms.append(peak + jnp.log(total) / alpha)  # log of the sum of exp(score)
    out, norms = (jnp.concatenate(x, axis=2) for x in (out, norms))
    return out, (query, key, value, out, norms)


def _causal_backward(alpha, chunk, kept, grad):
    query, key, value, out, norms = kept
    wide, scale = norms.dtype, query.shape[-1] ** -0.5
    inner = jnp.sum(grad.astype(wide) * out, axis=-1, keepdims=True)  # [b, n, t, 1]
    by_query = []
    by_key, by_value = jnp.zeros(key.shape, wide), jnp.zeros(value.shape, wide)
    for at, seen, visible in _parts(query.shape[2], chunk):
        scores = _scores(query[:, :, at], key[:, :, seen], alpha)
        weights = jnp.exp((scores - norms[:, :, at]) * alpha)
        weights = jnp.where(visible, weights, 0)
        change = jnp.einsum("bnth,bnsh->bnts", grad[:, :, at], value[:, :, seen])
        change = (weights * (change - inner[:, :, at]) * scale).astype(query.dtype)
        weights = weights.astype(value.dtype)
        by_query.append(jnp.einsum("bnts,bnsh->bnth", change, key[:, :, seen]))
        add = jnp.einsum("bnts,bnth->bnsh", change, query[:, :, at])
        by_key = by_key.at[:, :, seen].add(add)
        add = jnp.einsum("bnts,bnth->bnsh", weights, grad[:, :, at])
        by_value = by_value.at[:, :, seen].add(add)
    by_query = jnp.concatenate(by_query, axis=2)
    return by_query, by_key.astype(key.dtype), by_value.astype(value.dtype)


_causal.defvjp(_causal_forward, _causal_backward)


def _parts(length: int, chunk: int):
    """Queries of each part, the keys up to its end, and which of them it sees."""
    for start in range(0, length, chunk):
        stop = min(start + chunk, length)
        visible = np.tri(stop - start, stop, start, dtype=bool)
        yield slice(start, stop), slice(stop), visible


def _scores(query: Array, key: Array, alpha: float) -> Array:
    """`alpha` times too small, in float32 at least after the product."""
    scores = jnp.einsum("bnth,bnsh->bnts", scale_query(query, alpha), key)
    return scores.astype(jnp.promote_types(scores.dtype, jnp.float32))


def hide(scores: Array, visible: Array) -> Array:
    """Scores, very low where `visible`, bool of a fitting shape, is False."""
    # A quarter of the range: subtracting the row maximum cannot overflow it.
    return jnp.where(visible, scores, jnp.finfo(scores.dtype).min / 4)


def without_padding(mask: Array, visible: Array | None) -> Array:
    """The mask without the keys that are padding.

    Args:
      mask: bool [t, t].
      visible: bool [b, v] of the first v positions, False for padding; None is none.

    Returns:
      bool [b or 1, t, t]. A padding query still sees itself, so no row is empty.
    """
    if visible is None:
        return jnp.asarray(mask[None])
    visible = of_length(visible, len(mask))
    return (jnp.asarray(mask) & visible[:, None]) | jnp.eye(len(mask), dtype=bool)


def of_length(visible: Array, length: int) -> Array:
    """bool [b, length] from [b, v]: what is behind the first v is visible."""
    rest = length - visible.shape[1]
    if rest <= 0:
        return visible[:, :length]
    return jnp.pad(visible, ((0, 0), (0, rest)), constant_values=True)
