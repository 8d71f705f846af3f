"""What a cache of window and pivots holds, and what of it each query sees.

    key  [ring of the window | pivots | spare]     of what follows the prefix
    prefix_key  [pivots | the last positions]      of the prefix, text or an image

A sequence of text and an image is counted from its first real token: a query at `q` is
in block `q // size` and sees the keys of the last `times` blocks up to itself, and of
what lies before those the pivots (`pivot_attention.py`). Which keys lie before is
another question for every length of the text, so it is computed for each prompt; where
keys are held is the same for all, and static.
"""

import functools
from dataclasses import dataclass, field
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
from jax import Array

from cogjax.ops.attention import hide
from cogjax.ops.pivot_attention import Window


@dataclass(frozen=True)
class WindowPlan:
    """Where keys of `num_tokens` positions behind a prefix live in one layer.

    window: what a query sees. pivots: which of these positions are pivots, None of
    text, which all are. calls: most positions a call; above 1 nothing is reused, since
    some may be taken back. slots: int32 [m], one or two slots that each position is
    written to. held: int32 [width], the position that a slot holds in the end, -1 in
    the ring, whose slots are written in turn. near, far: bool [width], whether a slot
    may be seen in the window, and as a pivot.
    """

    window: Window
    pivots: tuple[int, ...] | None
    num_tokens: int
    calls: int
    slots: tuple[np.ndarray, ...] = field(compare=False)
    held: np.ndarray = field(compare=False)
    near: np.ndarray = field(compare=False)
    far: np.ndarray = field(compare=False)
    banks: ClassVar = 0
    # dtypes of `Cache.prefix_held` and `Cache.prefix_pivot`.
    marks: ClassVar = (jnp.int32, jnp.bool_)

    @property
    def width(self) -> int:
        """Slots."""
        return len(self.held)

    @property
    def reach(self) -> int:
        """Positions before a query that its window may have."""
        return self.window.size * self.window.times - 1

    def sees(self, places: Array, starts: Array) -> tuple[Array, Array]:
        """(what queries see, what of that they see as pivots): bool [b, u, width].

        places: int [b, u] behind the prefix, or [1, u]; starts: [b], its real length.
        """
        ring = int(np.sum(self.held < 0))
        slots = jnp.arange(self.width)
        queries = places[..., None]  # [b, u, 1]
        held = jnp.asarray(self.held)
        if ring:
            held = jnp.where(held < 0, queries - (queries - slots) % ring, held)
        starts = starts[:, None, None]
        before = starts + held < self.window.first(starts + queries)  # [b, u, w]
        there = (held >= 0) & (held <= queries)
        return there & jnp.where(before, self.far, self.near), before

    def sees_prefix(
        self, places: Array, starts: Array, held: Array, is_pivot: Array
    ) -> tuple[Array, Array]:
        """As `sees`, of the prefix: bool [b, u, t].

        held: int [b, t], positions, -1 for none. is_pivot: bool [b, t].
        """
        first = self.window.first(starts[:, None] + places)[..., None]
        before = held[:, None] < first
        return (held[:, None] >= 0) & (~before | is_pivot[:, None]), before

    def scores(self, scores: Array, seen: tuple[Array, Array], alpha: float) -> Array:
        """Scores [b, n, u, w] of `seen`: with the bonus of pivots, the rest hidden."""
        visible, before = (x[:, None] for x in seen)
        bonus = jnp.asarray(self.window.bonus / alpha, scores.dtype)
        return hide(jnp.where(before, scores + bonus, scores), visible)


@functools.lru_cache(maxsize=256)
def window_plan(
    window: Window,
    pivots: tuple[int, ...] | None,
    num_tokens: int,
    calls: int = 1,
) -> WindowPlan:
    """The smallest of the caches: as many slots as a window and the pivots before it.

    pivots: ascending; arguments as those of `WindowPlan`.
    """
    make = functools.partial(WindowPlan, window, pivots, num_tokens, calls)
    if pivots is None or calls > 1:
        held = np.arange(num_tokens + calls - 1, dtype=np.int32)
        everywhere = np.full(len(held), True)
        far = everywhere if pivots is None else np.isin(held, pivots)
        return make((held,), held, everywhere, far)
    size, times, _ = window
    ring = min(size * times, num_tokens)
    # Those behind are in the window of all that comes.
    never = num_tokens - 1 - (times - 1) * size
    used = np.array([place for place in pivots if place < never], int)
    places = np.arange(num_tokens, dtype=np.int32)
    # The place of the next pivot, which overwrites all that is no pivot.
    behind = (ring + np.searchsorted(used, places)).astype(np.int32)
    held = np.concatenate([np.full(ring, -1), used, [num_tokens]]).astype(np.int32)
    near = np.arange(len(held)) < ring
    return make((places % ring, behind), held, near, ~near)
