import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from cogjax.ops.attention import causal_attention
from cogjax.parallel.axes import constrain, over_heads
from cogjax.parallel.mesh import MeshConfig, make_mesh


def test_heads_and_batch_on_their_own_devices():
    rng = np.random.default_rng(0)
    arrays = [jnp.asarray(rng.normal(size=(4, 6, 2, 4)), jnp.float32) for _ in range(3)]
    shapes = []

    def attend(*arrays):
        shapes.append(arrays[0].shape)
        return causal_attention(*arrays)

    grad = jax.grad(lambda *x: jnp.sum(over_heads(attend)(*x) ** 2), (0, 1, 2))
    want = jax.jit(grad)(*arrays)
    with jax.set_mesh(make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))):
        step = jax.jit(grad).lower(*arrays).compile()
        got = step(*arrays)
    assert shapes == [(4, 6, 2, 4), (1, 6, 1, 4)]
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    for collective in ("all-gather", "all-reduce", "all-to-all"):
        assert collective not in step.as_text()


def test_an_axis_shorter_than_its_devices_stays_whole():
    with jax.set_mesh(make_mesh(MeshConfig(data=2, fsdp=1, tensor=4))):
        run = jax.jit(lambda x: constrain(x + 1, "batch", "sequence", None))
        one, many = (run(jnp.zeros((4, length, 3))) for length in (1, 8))
    assert one.sharding.shard_shape(one.shape) == (2, 1, 3)
    assert many.sharding.shard_shape(many.shape) == (2, 2, 3)


def test_within_a_worker_the_other_axes_split():
    """As the gradients of each worker are computed, see `train/compression.py`."""
    spec, shapes = PartitionSpec("data"), []

    def attend(x):
        shapes.append(x.shape)
        return 2 * x

    def work(x):
        return over_heads(attend)(constrain(x + 1, "batch", None, "heads", None))

    each = {"in_specs": spec, "out_specs": spec, "axis_names": {"data"}}
    with jax.set_mesh(make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))):
        run = jax.jit(jax.shard_map(work, **each, check_vma=False))
        found = run(jnp.zeros((4, 3, 2, 5)))
    assert shapes == [(1, 3, 1, 5)]
    assert found.sharding.shard_shape(found.shape) == (1, 3, 1, 5)
    np.testing.assert_array_equal(found, 2)
