"""Attention of sequences to texts that several of them share."""

import jax
import jax.numpy as jnp
from jax import Array

from cogjax.ops.attention import hide
from cogjax.ops.precision import scale_query


def cross_attention(query: Array, key: Array, value: Array, visible: Array) -> Array:
    """Attention of b sequences to p texts, b / p sequences to each in turn.

    Args:
      query: [b, u, n, h].
      key: [p, n, h, t], value: [p, n, t, h], in the order of the products.
      visible: bool [p, t], False for padding; each text has a piece that is none.

    Returns:
      [b, u, n, h] in the dtype of `query`.
    """
    num_texts, heads, head_dim, _ = key.shape
    # Sequences of one text are queries of one product.
    together = scale_query(query, 1).reshape(num_texts, -1, heads, head_dim)
    scores = jnp.einsum("pqnh,pnht->pnqt", together, key.astype(query.dtype))
    weights = jax.nn.softmax(hide(scores, visible[:, None, None]))
    out = jnp.einsum("pnqt,pnth->pqnh", weights, value.astype(query.dtype))
    return out.reshape(query.shape)
