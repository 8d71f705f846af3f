"""Key-value cache of full attention: plain arrays in, plain arrays out."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array


class Cache(NamedTuple):
    """Keys and values of one layer, or of all layers with a leading axis `l`."""

    key: Array  # [b, s, n, h]
    value: Array  # [b, s, n, h]


def empty_cache(
    num_layers: int, batch: int, length: int, heads: int, head_dim: int, dtype
) -> Cache:
    """Returns a zeroed cache with leaves [l, b, s, n, h]."""
    shape = (num_layers, batch, length, heads, head_dim)
    return Cache(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))


def insert(cache: Cache, key: Array, value: Array, slot: Array) -> Cache:
    """Writes keys and values [b, t, n, h] at slots `slot .. slot + t - 1`."""
    start = (0, slot, 0, 0)
    return Cache(
        jax.lax.dynamic_update_slice(cache.key, key.astype(cache.key.dtype), start),
        jax.lax.dynamic_update_slice(
            cache.value, value.astype(cache.value.dtype), start
        ),
    )
