import jax.numpy as jnp
import numpy as np

from cogjax.ops.cache import Cache, empty_cache, insert


def test_insert_writes_only_its_slots():
    cache = empty_cache(2, 3, 8, 2, 4, jnp.float32)
    assert cache.key.shape == (2, 3, 8, 2, 4)
    layer = Cache(cache.key[0], cache.value[0])
    block = jnp.ones((3, 2, 2, 4))
    new = insert(layer, block, 2 * block, 5)
    np.testing.assert_array_equal(new.key[:, 5:7], block)
    np.testing.assert_array_equal(new.value[:, 5:7], 2 * block)
    assert float(new.key.sum()) == block.size
