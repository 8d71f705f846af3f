import jax.numpy as jnp
import numpy as np
import pytest

from cogjax.ops.cache import Cache, cache_plan, empty_cache, insert
from cogjax.ops.masks import EDGES, Pattern, image_mask, layer_kinds


def test_insert_writes_only_its_slots():
    cache = empty_cache(2, 3, 8, 2, 4, jnp.float32)
    assert cache.key.shape == (2, 3, 8, 2, 4)
    layer = Cache(cache.key[0], cache.value[0])
    block = jnp.ones((3, 2, 2, 4))
    new = insert(layer, block, 2 * block, 5)
    np.testing.assert_array_equal(new.key[:, 5:7], block)
    np.testing.assert_array_equal(new.value[:, 5:7], 2 * block)
    assert float(new.key.sum()) == block.size


def plans():
    for rows, cols, kernel in ((4, 4, 3), (6, 5, 5), (5, 2, 5), (1, 6, 3)):
        yield Pattern("full", rows, cols)
        yield Pattern("row", rows, cols)
        yield Pattern("row", rows, cols, row_extent="own")
        yield Pattern("column", rows, cols)
        for edge in EDGES:
            yield Pattern("conv", rows, cols, kernel=kernel, edge=edge)


@pytest.mark.parametrize("pattern", list(plans()), ids=str)
def test_a_query_reads_exactly_the_keys_of_its_mask(pattern):
    plan, mask = cache_plan(pattern), image_mask(pattern)
    slots = np.full(plan.num_slots, -1)
    for k in range(pattern.length):
        slots[plan.slot[k]] = k
        read = slots[plan.start[k] : plan.start[k] + plan.length]
        assert len(read) == plan.length
        seen = read[plan.visible[k]]
        assert sorted(seen) == list(np.flatnonzero(mask[k]))


def test_slots_of_dalle():
    def slots(kind, **settings):
        return cache_plan(Pattern(kind, 32, 32, **settings)).num_slots

    assert slots("row") == 33
    assert slots("row", row_extent="own") == 32
    assert slots("column") == 1024
    # Five rows above, five cells to the left, and the query.
    assert slots("conv") == slots("conv", edge="clip") == 5 * 32 + 5 + 1
    # 256 of text and the image, over 64 layers; all kept would be 81,920.
    total = sum(256 + slots(kind) for kind in layer_kinds(64, "dalle"))
    assert total == 34_485


def test_a_column_is_read_in_one_piece():
    assert cache_plan(Pattern("column", 32, 16)).length == 32


def test_only_causal_patterns_have_a_plan():
    with pytest.raises(ValueError, match="causal"):
        cache_plan(Pattern("row", 2, 2, causal=False))
