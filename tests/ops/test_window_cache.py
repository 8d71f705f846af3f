"""Which positions a query sees in a cache, each once, against training's mask."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cogjax.ops.cache import empty_cache, keep_prefix
from cogjax.ops.masks import three_region_mask
from cogjax.ops.pivot_attention import Window
from cogjax.ops.window_cache import window_plan

STARTS = np.arange(1, 10)  # Each place of a block, more than once.
PIVOTS = (0, 3, 4, 9, 14, 16, 21, 22)


def oracle(window, start, pivots, count):
    """(bool [count, start + count], same of pivots) of codes that begin at `start`."""
    length = -(-(start + count) // window.size) * window.size
    chosen = [*range(start), *(start + np.array(pivots))]
    mask, _ = three_region_mask(length, window.size, window.times, chosen)
    own = slice(start, start + count), slice(start + count)
    places = np.arange(length)
    blocks = places // window.size
    far = blocks[None] <= blocks[:, None] - window.times
    return mask[own], (mask & far)[own]


@functools.partial(jax.jit, static_argnums=0)
def seen(plan, prefix, pivot):
    """What each of the plan's tokens sees behind prefixes of STARTS, [b, u, w]."""
    places, starts = jnp.arange(plan.num_tokens)[None], jnp.asarray(STARTS)
    own = plan.sees(places, starts)
    return own, plan.sees_prefix(places, starts, prefix, pivot)


def slots(plan):
    """Positions in the slots when each token has just been written: [m, width]."""
    held, found = np.full(plan.width, -1), []
    for place in range(plan.num_tokens):
        for table in plan.slots:
            held[table[place]] = place
        found.append(held.copy())
    return np.array(found)


@pytest.mark.parametrize("times", [1, 2, 3])
@pytest.mark.parametrize("calls", [1, 4])
@pytest.mark.parametrize("count", [23, 6])
def test_a_query_sees_each_position_of_the_mask_once(times, calls, count):
    window = Window.of(4, times, 40, 20)
    plan = window_plan(window, PIVOTS, count, calls)
    # All of the prefixes are text, held at their own places and padded behind.
    prefix = np.where(np.arange(9) < STARTS[:, None], np.arange(9), -1)
    own, of_prefix = jax.tree.map(np.asarray, seen(plan, prefix, prefix >= 0))
    held = slots(plan) if calls == 1 else np.arange(plan.width)[None].repeat(count, 0)
    for row, start in enumerate(STARTS):
        pivots = [place for place in PIVOTS if place < count]
        for want, near, far in zip(
            oracle(window, start, pivots, count),
            (own[0][row], (own[0] & own[1])[row]),
            (of_prefix[0][row], (of_prefix[0] & of_prefix[1])[row]),
            strict=True,
        ):
            for query in range(count):
                places = [*prefix[row][far[query]]]
                places += [*(start + held[query][near[query]])]
                assert sorted(places) == list(np.flatnonzero(want[query]))


def test_nothing_is_held_longer_than_it_is_seen():
    plan = window_plan(Window.of(4, 2, 40, 20), PIVOTS, 23)
    # Pivots behind 18 are in the window of all that follow: 8 of the ring, 6, a spare.
    assert plan.width == 8 + 6 + 1
    assert window_plan(Window.of(4, 2, 40, 20), None, 5).width == 5


@pytest.mark.parametrize("length", [9, 30])
def test_a_prefix_keeps_its_pivots_and_its_end(length):
    """What texts behind an image may see of it, whatever its length."""
    window, real = Window.of(4, 2, 40, 20), np.array([length - 3, length])
    plan, rows = window_plan(window, None, 6), 2
    pivots = np.array([[0, 1, 3, 9, 22, 29], [0, 2, 5, 6, 23, 29]])
    pivots = np.where(pivots < real[:, None], pivots, length)
    count = min(length, pivots.shape[1] + plan.reach)

    @jax.jit
    def kept(pivots, real):
        cache = empty_cache(plan, rows, count, rows, 1, 4, jnp.float32)
        cache = keep_prefix(cache, pivots, real, length)
        found = cache.prefix_held, cache.prefix_pivot
        return found, plan.sees_prefix(jnp.arange(6)[None], real, *found)

    (held, _), (visible, far) = jax.tree.map(np.asarray, kept(pivots, real))
    for row in range(rows):
        chosen = {int(place) for place in pivots[row] if place < real[row]}
        chosen |= set(range(real[row], real[row] + 6))
        total = -(-(real[row] + 6) // 4) * 4
        mask, _ = three_region_mask(total, 4, 2, sorted(chosen))
        for query in range(6):
            want = np.flatnonzero(mask[real[row] + query, : real[row]])
            assert sorted(held[row][visible[row, query]]) == list(want)
            first = ((real[row] + query) // 4 - 1) * 4
            np.testing.assert_array_equal(far[row, query], held[row] < first)
