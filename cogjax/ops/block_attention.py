"""Blocks of queries over the keys near them and keys that all share, in one softmax.

    scores = [q . k_near | q . k_far + bonus]

Letters: `g` block, `u` query in it, `w` near key of it, `t` far key.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from cogjax.ops.attention import hide


class Far(NamedTuple):
    """Keys of all blocks. key, value: [b, n, t, h].

    visible: bool, broadcastable to [b, n, g, u, t]; None is all.
    """

    key: Array
    value: Array
    visible: Array | None = None


def attend_blocks(
    query: Array,
    key: Array,
    value: Array,
    mask: Array,
    far: Far | None,
    *,
    alpha: float,
    bonus: float = 0.0,
) -> Array:
    """PB-Relax attention of blocks.

    Args:
      query: [b, n, g, u, h], of `scale_query`. key, value: [b, n, g, w, h].
      mask: bool, broadcastable to [b, n, g, u, w]; True where a query may look.
      bonus: what is added to the far scores, as if alpha were 1.

    Returns:
      [b, n, g, u, h].
    """
    near = hide(jnp.einsum("bnguh,bngwh->bnguw", query, key), mask)
    if far is None:
        [near], total = exponentials([near], alpha)
        out = jnp.einsum("bnguw,bngwh->bnguh", near, value)
        return out / total.astype(out.dtype)
    scores = jnp.einsum("bnguh,bnth->bngut", query, far.key)
    if bonus:
        scores += jnp.asarray(bonus / alpha, scores.dtype)
    if far.visible is not None:
        scores = hide(scores, far.visible)
    (near, scores), total = exponentials([near, scores], alpha)
    out = jnp.einsum("bnguw,bngwh->bnguh", near, value)
    out += jnp.einsum("bngut,bnth->bnguh", scores, far.value)
    return out / total.astype(out.dtype)


def exponentials(scores: list[Array], alpha: float) -> tuple[list[Array], Array]:
    """exp(alpha * (score - maximum)) of each part [..., w], and their sum [..., 1]."""
    peaks = [jnp.max(part, axis=-1, keepdims=True) for part in scores]
    peak = jax.lax.stop_gradient(functools.reduce(jnp.maximum, peaks))
    parts = [jnp.exp((part - peak) * alpha) for part in scores]
    dtype = jnp.promote_types(parts[0].dtype, jnp.float32)
    sums = [jnp.sum(x, axis=-1, keepdims=True, dtype=dtype) for x in parts]
    return parts, sum(sums)
