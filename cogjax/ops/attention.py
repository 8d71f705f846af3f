"""Dense multi-head attention, the reference that structured forms are tested on."""

import jax.numpy as jnp
from jax import Array

from cogjax.ops.precision import relaxed_softmax


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
    # Parity: the query is divided before the product, as CogView does, so the product
    # itself cannot overflow. tests/ops/test_attention.py::test_scale_order
    query = query / jnp.asarray(alpha * query.shape[-1] ** 0.5, query.dtype)
    scores = jnp.einsum("btnh,bsnh->bnts", query, key)
    # A quarter of the range: subtracting the row maximum cannot overflow it.
    floor = jnp.finfo(scores.dtype).min / 4
    scores = jnp.where(mask[:, None], scores, floor)
    probs = relaxed_softmax(scores, alpha)
    return jnp.einsum("bnts,bsnh->btnh", probs, value)
