"""Key-value caches: plain arrays in, plain arrays out.

A layer of a sparse kind keeps only the image keys that a later query still needs;
`cache_plan` says where each position is written and which of them a query reads;
`window_cache.py` does for layers of a window and pivots.
"""

import functools
from dataclasses import dataclass, field, replace
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from cogjax.ops.masks import FULL, Grid, LayerKind, image_mask
from cogjax.ops.window_cache import WindowPlan


@dataclass(frozen=True)
class CachePlan:
    """Where the keys of a layer live while what follows the prefix is sampled.

    Position k is written to `slot[k]` of `bank[k]`; its query reads this bank and sees
    `visible[k]` of it. Slots are reused: a ring of the last `cols + 1` positions for
    rows, of the last rows for convolutions; columns have a bank each.

    banks: 0 is one, without an axis. slot, bank: int32 [m]. visible: bool [m, width];
    None where a query sees all slots up to its own. Kind, grid and window decide all.
    """

    kind: LayerKind
    grid: Grid
    window: int
    banks: int = field(compare=False)
    width: int = field(compare=False)
    bank: np.ndarray = field(compare=False)
    slot: np.ndarray = field(compare=False)
    visible: np.ndarray | None = field(compare=False)

    # Types of what a cache knows of its prefixes beside their keys.
    marks: ClassVar = ()

    @property
    def slots(self) -> tuple[np.ndarray, ...]:
        """All slots that a position is written to."""
        return (self.slot,)

    def sees(self, places: Array) -> Array:
        """bool [u, width]: what the queries at int [u] see of their bank."""
        if self.visible is None:
            return jnp.arange(self.width) <= places[:, None]
        return jnp.asarray(self.visible)[places]


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=(
        "prefix_key",
        "prefix_value",
        "key",
        "value",
        "prefix_held",
        "prefix_pivot",
    ),
    meta_fields=("plan",),
)
@dataclass(frozen=True)
class Cache:
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
    plan: CachePlan | WindowPlan  # static
    # A `WindowPlan` alone has them: which positions of its prefixes are held, -1 none,
    # and which of them are pivots.
    prefix_held: Array | None = None  # int32 [p, t]
    prefix_pivot: Array | None = None  # bool [p, t]


@functools.lru_cache(maxsize=64)
def cache_plan(kind: LayerKind, grid: Grid, window: int = 1) -> CachePlan:
    """The smallest of the layouts that holds what an image needs while it is drawn.

    window: positions a call; above 1 nothing is reused, since some may be taken back.
    """
    rows, cols = grid
    make = functools.partial(CachePlan, kind, grid, window)
    length = rows * cols
    if window > 1 or kind.name == "full":
        width = length + window - 1
        places = np.arange(width, dtype=np.int32)
        visible = None
        if kind.name != "full":
            visible = np.pad(image_mask(kind, grid), (0, window - 1))  # [width, width]
        return make(0, width, np.zeros_like(places), places, visible)
    places = np.arange(length, dtype=np.int32)
    mask = image_mask(kind, grid)  # [m, m]
    row, col = places // cols, places % cols
    if kind.name == "column":
        held = np.arange(rows)[None] * cols + col[:, None]  # [m, rows], of its column
        return make(cols, rows, col, row, mask[places[:, None], held])
    width = _reach(mask)
    # What is in each slot of the ring when position k has just been written.
    held = places[:, None] - (places[:, None] - np.arange(width)) % width  # [m, width]
    visible = (held >= 0) & mask[places[:, None], held]
    return make(0, width, np.zeros_like(places), places % width, visible)


def text_plan(num_tokens: int, window: int = 1) -> CachePlan:
    """Plan of so many positions that see all before them."""
    return cache_plan(FULL, (1, num_tokens), window)


def empty_cache(
    plan: CachePlan | WindowPlan,
    num_prefix: int,
    prefix_len: int,
    batch: int,
    heads: int,
    head_dim: int,
    dtype,
) -> Cache:
    """Zeroed cache of one layer; `keep_prefix` says what one of a window is to hold."""
    lead = (plan.banks,) if plan.banks else ()
    lead += (batch, heads) if batch > 1 else (heads,)
    return Cache(
        jnp.zeros((num_prefix, heads, head_dim, prefix_len), dtype),
        jnp.zeros((num_prefix, heads, prefix_len, head_dim), dtype),
        jnp.zeros((*lead, head_dim, plan.width), dtype),
        jnp.zeros((*lead, plan.width, head_dim), dtype),
        plan,
        *(jnp.zeros((num_prefix, prefix_len), x) for x in plan.marks),
    )


def keep_prefix(cache: Cache, pivots: Array, lengths: Array, length: int) -> Cache:
    """Says which positions of its prefixes a cache of a window is to hold.

    pivots: int [p, k], their positions, `length` for none. lengths: [p], of the
    prefixes, behind which they are filled up to `length`.
    """
    count = cache.prefix_held.shape[1]
    rows = jnp.arange(len(pivots))[:, None]
    is_pivot = jnp.zeros((len(pivots), length), bool)
    is_pivot = is_pivot.at[rows, pivots].set(True, mode="drop")
    if count == length:
        places = jnp.arange(length)
        held = jnp.where(places < lengths[:, None], places, -1)
        return replace(cache, prefix_held=held, prefix_pivot=is_pivot)
    last = lengths[:, None] - cache.plan.reach + jnp.arange(cache.plan.reach)
    far = jnp.where(pivots < last[:, :1], pivots, -1)
    near_pivot = jnp.take_along_axis(is_pivot, jnp.maximum(last, 0), axis=1)
    return replace(
        cache,
        prefix_held=jnp.concatenate([far, jnp.maximum(last, -1)], axis=1),
        prefix_pivot=jnp.concatenate([far >= 0, near_pivot], axis=1),
    )


def insert_prefix(cache: Cache, key: Array, value: Array) -> Cache:
    """Sets the keys and values of the prefix, [p, t, n, h]."""
    dtype = cache.prefix_key.dtype
    if cache.prefix_held is not None:
        held = jnp.maximum(cache.prefix_held, 0)[:, :, None, None]
        key, value = (jnp.take_along_axis(x, held, axis=1) for x in (key, value))
    return replace(
        cache,
        prefix_key=key.astype(dtype).transpose(0, 2, 3, 1),
        prefix_value=value.astype(dtype).swapaxes(1, 2),
    )


def insert(cache: Cache, key: Array, value: Array, place: Array) -> Cache:
    """Writes keys and values [b, u, n, h] of positions `place .. place + u - 1`.

    place: int scalar, or [b] for a plan with a window.
    """
    if jnp.ndim(place) and len(place) > 1:
        return _insert_apart(cache, key, value, place)
    plan, place = cache.plan, jnp.reshape(place, ())
    key = _like(cache.key, key.transpose(0, 2, 3, 1))
    value = _like(cache.value, value.swapaxes(1, 2))
    rest = (0,) * (cache.key.ndim - 2)
    if plan.banks:
        rest = (jnp.asarray(plan.bank)[place], *rest[1:])
    update, (keys, values) = jax.lax.dynamic_update_slice, (cache.key, cache.value)
    for slots in plan.slots:
        slot = jnp.asarray(slots)[place]
        keys = update(keys, key, (*rest, 0, slot))
        values = update(values, value, (*rest, slot, 0))
    return replace(cache, key=keys, value=values)


def _insert_apart(cache: Cache, key: Array, value: Array, place: Array) -> Cache:
    """Each sequence from its own slot on."""

    def put(held, new, slot, axis):
        starts = [0, 0, 0]
        starts[axis] = slot
        return jax.lax.dynamic_update_slice(held, new.astype(held.dtype), starts)

    put = jax.vmap(put, in_axes=(0, 0, 0, None))
    return replace(
        cache,
        key=put(cache.key, key.transpose(0, 2, 3, 1), place, 2),
        value=put(cache.value, value.swapaxes(1, 2), place, 1),
    )


def read(cache: Cache, place: Array) -> tuple[Array, Array]:
    """Keys [..., n, h, w] and values [..., n, w, h] that the query at `place` reads."""
    if not cache.plan.banks:
        return cache.key, cache.value
    bank = jnp.asarray(cache.plan.bank)[place]
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
