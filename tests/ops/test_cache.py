import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cogjax.ops.cache import cache_plan, empty_cache, insert, insert_prefix, read
from cogjax.ops.masks import EDGES, FULL, LayerKind, image_mask, sparse_kinds
from cogjax.ops.sparse_attention import cached_attention


def test_insert_writes_only_its_slots():
    plan = cache_plan(FULL, (1, 8), window=2)
    block = np.arange(1, 1 + 3 * 2 * 2 * 4, dtype=np.float32).reshape(3, 2, 2, 4)

    @jax.jit
    def run(block):
        cache = empty_cache(plan, 1, 5, len(block), 2, 4, jnp.float32)
        new = insert(cache, block, 2 * block, 5)
        return new, read(new, 5)

    for batch in (1, 3):
        new, there = jax.tree.map(np.asarray, run(block[:batch]))
        key, value = (x.reshape(batch, 2, *x.shape[-2:]) for x in there)
        np.testing.assert_array_equal(
            key[..., 5:7].transpose(0, 3, 1, 2), block[:batch]
        )
        np.testing.assert_array_equal(
            value[:, :, 5:7].swapaxes(1, 2), 2 * block[:batch]
        )
        assert new.key.sum() == block[:batch].sum()
        assert not new.prefix_key.any()


def test_insert_prefix():
    plan = cache_plan(LayerKind("row"), (2, 2))
    block = np.arange(2 * 5 * 2 * 4, dtype=np.float32).reshape(2, 5, 2, 4)
    new = jax.jit(
        lambda x: insert_prefix(empty_cache(plan, 2, 5, 4, 2, 4, "float32"), x, -x)
    )(block)
    new = jax.tree.map(np.asarray, new)
    np.testing.assert_array_equal(new.prefix_key.transpose(0, 3, 1, 2), block)
    np.testing.assert_array_equal(new.prefix_value.swapaxes(1, 2), -block)


@pytest.mark.parametrize("batch", [1, 8])
def test_in_place(batch, compiled_text):
    """A loop updates rings where they are: a copy a step would cost more than reads."""
    plan = cache_plan(LayerKind("row"), (32, 32))

    def step(carry, place):
        cache, x = carry
        key = jnp.broadcast_to(x[:, None, None, None], (batch, 1, 8, 64))
        out, cache = cached_attention(
            key, key, key, cache, place, prefix_visible=jnp.ones((1, 4), bool)
        )
        return (cache, x + out[:, 0, 0, 0]), None

    cache = empty_cache(plan, 1, 4, batch, 8, 64, jnp.float32)
    loop = jax.jit(lambda c, x: jax.lax.scan(step, (c, x), jnp.arange(9))[0][1])
    text = compiled_text(loop, cache, jnp.ones(batch))
    body = max(re.split(r"\n(?=%|ENTRY)", text), key=lambda part: "cached" in part)
    sizes = [n for n in re.findall(r"f32\[([0-9,]+)\]\S* copy\(", body)]
    assert not [s for s in sizes if math.prod(map(int, s.split(","))) >= 33 * 64 * 8]


def cases():
    for rows, cols, kernel in ((4, 4, 3), (6, 5, 5), (5, 2, 5), (1, 6, 3)):
        kinds = [FULL, LayerKind("row"), LayerKind("row", row_extent="own")]
        kinds.append(LayerKind("column"))
        kinds += [LayerKind("conv", kernel, edge) for edge in EDGES]
        for kind in kinds:
            yield kind, (rows, cols)


@pytest.mark.parametrize(("kind", "grid"), list(cases()), ids=str)
def test_a_query_reads_exactly_the_keys_of_its_mask(kind, grid):
    plan, mask = cache_plan(kind, grid), image_mask(kind, grid)
    slots = np.full((max(plan.banks, 1), plan.width), -1)
    visible = np.asarray(jax.jit(plan.sees)(np.arange(len(mask))))
    for k in range(len(mask)):
        slots[plan.bank[k], plan.slot[k]] = k
        seen = slots[plan.bank[k]][visible[k]]
        assert sorted(seen) == list(np.flatnonzero(mask[k]))


@pytest.mark.parametrize(("kind", "grid"), list(cases()), ids=str)
def test_a_window_overwrites_nothing_that_may_be_taken_back(kind, grid):
    plan, mask = cache_plan(kind, grid, window=3), image_mask(kind, grid)
    assert plan.width == len(mask) + 2 and not plan.banks
    np.testing.assert_array_equal(plan.slot, np.arange(plan.width))
    visible = np.asarray(jax.jit(plan.sees)(np.arange(len(mask))))
    np.testing.assert_array_equal(visible[:, : len(mask)], mask)
    assert not visible[:, len(mask) :].any()


def test_slots_of_dalle():
    def slots(name, **settings):
        plan = cache_plan(LayerKind(name, **settings), (32, 32))
        return max(plan.banks, 1) * plan.width

    assert slots("row") == 33
    assert slots("row", row_extent="own") == 32
    assert slots("column") == 1024
    # Five rows above, five cells to the left, and the query.
    assert slots("conv") == slots("conv", edge="clip") == 5 * 32 + 5 + 1
    # 256 of text and the image, over 64 layers; all kept would be 81,920.
    total = sum(256 + slots(kind.name) for kind in sparse_kinds(64))
    assert total == 34_485


def test_a_column_is_read_in_one_piece():
    plan = cache_plan(LayerKind("column"), (32, 16))
    assert (plan.banks, plan.width) == (16, 32)


def test_plans_of_one_layout_are_equal():
    """They are static in programs: an equal one compiles nothing."""
    row = LayerKind("row")
    plan = cache_plan(row, (2, 2))
    assert plan == cache_plan(row, (2, 2), 1) == cache_plan(row, (2, 2), window=1)
    assert plan != cache_plan(row, (2, 2), 2) and plan != cache_plan(row, (2, 3))
