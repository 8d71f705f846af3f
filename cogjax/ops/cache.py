"""Key-value caches: plain arrays in, plain arrays out.

A layer that sees a pattern keeps only the image keys that a later query still needs;
`cache_plan` says where each position is written and which of them a query reads.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from cogjax.ops.masks import Pattern, image_mask


class Cache(NamedTuple):
    """Keys and values of one layer while sequences are continued.

    b sequences share p prefixes, b / p in turn each. What one step reads is contiguous,
    in the order of the products that read it; columns have leading banks [k], of which
    a step reads one. One sequence alone has no axis b: XLA's CPU backend would drop it,
    and then copy the cache at every step (tests/ops/test_cache.py::test_in_place).
    """

    prefix_key: Array  # [p, n, h, t]
    prefix_value: Array  # [p, n, t, h]
    key: Array  # [b, n, h, w] or [k, b, n, h, w]
    value: Array  # [b, n, w, h] or [k, b, n, w, h]


class CachePlan(NamedTuple):
    """Where the keys of a causal pattern live while its image is drawn.

    Position k is written to `slot[k]` of `bank[k]`; its query reads this bank and sees
    `visible[k]` of it. Slots are reused: a ring of the last `cols + 1` positions for
    rows, of the last rows for convolutions; columns have a bank each.

    banks: 0 is one, without an axis. slot, bank: int32 [m]. visible: bool [m, width];
    None where a query sees all slots up to its own.
    """

    banks: int
    width: int
    bank: np.ndarray
    slot: np.ndarray
    visible: np.ndarray | None

    def sees(self, places: Array) -> Array:
        """bool [u, width]: what the queries at int [u] see of their bank."""
        if self.visible is None:
            return jnp.arange(self.width) <= places[:, None]
        return jnp.asarray(self.visible)[places]


@functools.lru_cache(maxsize=64)
def cache_plan(pattern: Pattern, window: int = 1) -> CachePlan:
    """The smallest of the layouts that holds what the pattern needs.

    window: positions a call; above 1 nothing is reused, since some may be taken back.
    Raises ValueError for a pattern that is not causal.
    """
    if not pattern.causal:
        raise ValueError("a cache needs a causal pattern: both directions see all keys")
    places = np.arange(pattern.length, dtype=np.int32)
    if window > 1 or pattern.kind == "full":
        width = pattern.length + window - 1
        places = np.arange(width, dtype=np.int32)
        visible = None
        if pattern.kind != "full":
            visible = np.pad(image_mask(pattern), ((0, window - 1), (0, window - 1)))
        return CachePlan(0, width, np.zeros_like(places), places, visible)
    mask = image_mask(pattern)
    rows, cols = places // pattern.cols, places % pattern.cols
    if pattern.kind == "column":
        held = np.arange(pattern.rows)[None] * pattern.cols + cols[:, None]
        visible = mask[places[:, None], held]
        return CachePlan(pattern.cols, pattern.rows, cols, rows, visible)
    width = _reach(mask)
    # What is in each slot of the ring when position k has just been written.
    held = places[:, None] - (places[:, None] - np.arange(width)) % width
    visible = (held >= 0) & mask[places[:, None], held]
    return CachePlan(0, width, np.zeros_like(places), places % width, visible)


def plan_of(pattern: Pattern | None, cache: Cache) -> CachePlan:
    """The plan that a cache was made by; no pattern is a full one as long as it."""
    width = cache.key.shape[-1]
    pattern = pattern or Pattern("full", 1, width)
    return cache_plan(pattern, max(1, width - pattern.length + 1))


def empty_cache(
    plan: CachePlan,
    num_prefix: int,
    prefix_len: int,
    batch: int,
    heads: int,
    head_dim: int,
    dtype,
) -> Cache:
    """Zeroed cache of one layer."""
    lead = (plan.banks,) if plan.banks else ()
    lead += (batch, heads) if batch > 1 else (heads,)
    return Cache(
        jnp.zeros((num_prefix, heads, head_dim, prefix_len), dtype),
        jnp.zeros((num_prefix, heads, prefix_len, head_dim), dtype),
        jnp.zeros((*lead, head_dim, plan.width), dtype),
        jnp.zeros((*lead, plan.width, head_dim), dtype),
    )


def insert_prefix(cache: Cache, key: Array, value: Array) -> Cache:
    """Sets the keys and values of the prefix, [p, t, n, h]."""
    dtype = cache.prefix_key.dtype
    return cache._replace(
        prefix_key=key.astype(dtype).transpose(0, 2, 3, 1),
        prefix_value=value.astype(dtype).swapaxes(1, 2),
    )


def insert(
    cache: Cache, plan: CachePlan, key: Array, value: Array, place: Array
) -> Cache:
    """Writes keys and values [b, u, n, h] of positions `place .. place + u - 1`.

    place: int scalar, or [b] for a plan with a window.
    """
    if jnp.ndim(place) and len(place) > 1:
        return _insert_apart(cache, key, value, place)
    place = jnp.reshape(place, ())
    slot = jnp.asarray(plan.slot)[place]
    key = _like(cache.key, key.transpose(0, 2, 3, 1))
    value = _like(cache.value, value.swapaxes(1, 2))
    rest = (0,) * (cache.key.ndim - 2)
    if plan.banks:
        rest = (jnp.asarray(plan.bank)[place], *rest[1:])
    update = jax.lax.dynamic_update_slice
    return cache._replace(
        key=update(cache.key, key, (*rest, 0, slot)),
        value=update(cache.value, value, (*rest, slot, 0)),
    )


def _insert_apart(cache: Cache, key: Array, value: Array, place: Array) -> Cache:
    """Each sequence from its own slot on."""

    def put(held, new, slot, axis):
        starts = [0, 0, 0]
        starts[axis] = slot
        return jax.lax.dynamic_update_slice(held, new.astype(held.dtype), starts)

    put = jax.vmap(put, in_axes=(0, 0, 0, None))
    return cache._replace(
        key=put(cache.key, key.transpose(0, 2, 3, 1), place, 2),
        value=put(cache.value, value.swapaxes(1, 2), place, 1),
    )


def read(cache: Cache, plan: CachePlan, place: Array) -> tuple[Array, Array]:
    """Keys [..., n, h, w] and values [..., n, w, h] that the query at `place` reads."""
    if not plan.banks:
        return cache.key, cache.value
    bank = jnp.asarray(plan.bank)[place]
    return cache.key[bank], cache.value[bank]


def _like(held: Array, new: Array) -> Array:
    """New entries in the dtype and with the axes of what is held."""
    missing = held.ndim - new.ndim
    axes = (0,) if missing < 0 else ()
    new = jnp.squeeze(new, axes).astype(held.dtype)
    return jnp.expand_dims(new, tuple(range(held.ndim - new.ndim)))


def _reach(mask: np.ndarray) -> int:
    """Length of the shortest ring: the farthest key of any query, and itself."""
    queries, keys = np.nonzero(mask)
    return int((queries - keys).max()) + 1
