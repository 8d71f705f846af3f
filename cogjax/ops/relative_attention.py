"""T5's attention (Raffel et al. 2020, arXiv 1910.10683, section 2.1).

A learnt number for each head and each bucket of distances is added to the scores, and
the scores are not divided by the square root of the head's channels.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array


def relative_buckets(
    length: int, both_ways: bool, num: int = 32, max_distance: int = 128
) -> np.ndarray:
    """The bucket of each pair of positions: int [length, length], (query, key).

    Half of the buckets are for one distance each, the others for ranges that grow as
    its logarithm up to `max_distance`; farther pairs share the last bucket.

    both_ways: keys behind a query have buckets of their own, the upper half. Otherwise
    they share the bucket of distance 0: a causal mask hides them.
    """
    relative = np.arange(length)[None] - np.arange(length)[:, None]
    start = np.zeros_like(relative)
    distance = np.maximum(-relative, 0)
    if both_ways:
        num //= 2
        start, distance = num * (relative > 0), np.abs(relative)
    exact = num // 2
    grown = np.log(np.maximum(distance, exact) / exact) / np.log(max_distance / exact)
    far = np.minimum(exact + (grown * (num - exact)).astype(int), num - 1)
    return start + np.where(distance < exact, distance, far)


def biased_attention(
    query: Array, key: Array, value: Array, bias: Array | None, mask: Array | None
) -> Array:
    """softmax(query key^T + bias) value, in float32 between the products.

    Args:
      query: [b, t, n, h].
      key, value: [b, s, n, h].
      bias: [n, t, s] or None.
      mask: bool, broadcastable to [b, t, s], True where a query may look; None is all.

    Returns:
      [b, t, n, h] in the dtype of `query`.
    """
    return jax.nn.dot_product_attention(
        query,
        key,
        value,
        bias=None if bias is None else bias[None],
        mask=None if mask is None else jnp.expand_dims(mask, 1),
        scale=1.0,
    )
