"""Key-value caches: plain arrays in, plain arrays out.

A layer that sees a pattern keeps only the image keys that a later query still needs;
`cache_plan` says where each position is written and which slots a query reads.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from cogjax.ops.masks import Pattern, image_mask


class Cache(NamedTuple):
    """Keys and values of one layer, or of all layers with a leading axis `l`."""

    key: Array  # [b, s, n, h]
    value: Array  # [b, s, n, h]


class SparseCache(NamedTuple):
    """Keys and values of a layer with a pattern, for text and an image being drawn.

    b images are grouped by prompt and share p rows of text, b / p each.
    """

    text: Cache  # [p, t, n, h]
    image: Cache  # [b, num_slots, n, h]


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


class CachePlan(NamedTuple):
    """Where the image keys of a causal pattern live while an image is drawn.

    Position k is written to `slot[k]`; its query then reads the `length` slots from
    `start[k]` on, of which it sees `visible[k]`. Slots are reused: a ring of the last
    `cols + 1` positions for rows, of the last rows for convolutions.

    num_slots, length: int. slot, start: int32 [m]. visible: bool [m, length].
    """

    num_slots: int
    length: int
    slot: np.ndarray
    start: np.ndarray
    visible: np.ndarray


@functools.lru_cache(maxsize=64)
def cache_plan(pattern: Pattern) -> CachePlan:
    """The smallest of the three layouts that holds what the pattern needs.

    Columns lie one after the other, so that a query reads one contiguous piece.
    Raises ValueError for a pattern that is not causal.
    """
    if not pattern.causal:
        raise ValueError("a cache needs a causal pattern: both directions see all keys")
    places = np.arange(pattern.length, dtype=np.int32)
    rows, cols = places // pattern.cols, places % pattern.cols
    if pattern.kind == "column":
        num_slots, length = pattern.length, pattern.rows
        slot, start = cols * pattern.rows + rows, cols * pattern.rows
        held = np.arange(length)[None] * pattern.cols + cols[:, None]
    else:
        num_slots = length = _reach(pattern)
        slot, start = places % num_slots, np.zeros_like(places)
        # What is in each slot of the ring when position k has just been written.
        held = places[:, None] - (places[:, None] - np.arange(num_slots)) % num_slots
    visible = (held >= 0) & image_mask(pattern)[places[:, None], held]
    return CachePlan(num_slots, length, slot, start, visible)


def _reach(pattern: Pattern) -> int:
    """Length of the shortest ring: the farthest key of any query, and itself."""
    queries, keys = np.nonzero(image_mask(pattern))
    return int((queries - keys).max()) + 1
