import jax
import jax.numpy as jnp

from cogjax.ops.attention import causal_attention
from cogjax.ops.fused_attention import splash_causal
from cogjax.parallel.axes import over_heads
from cogjax.parallel.mesh import MeshConfig, make_mesh
from cogjax.plan.flops import count_flops, product_bytes


def shape(*sizes):
    return jax.ShapeDtypeStruct(sizes, jnp.float32)


def test_products_of_any_layout():
    product = 2 * 3 * 4 * 5 * 6
    found = count_flops(
        lambda x, y: jnp.einsum("bij,kjb->bik", x, y), shape(3, 4, 5), shape(6, 5, 3)
    )
    assert found == product


def test_loops_branches_and_what_is_computed_again():
    def layer(x, w):
        return jax.lax.cond(x[0, 0] > 0, lambda: jnp.tanh(x @ w), lambda: x), None

    def stack(x, ws):
        return jnp.sum(jax.lax.scan(jax.checkpoint(layer), x, ws)[0])

    one = 2 * 4 * 8 * 8
    args = shape(4, 8), shape(5, 8, 8)
    assert count_flops(stack, *args) == 5 * one
    # Forward, forward again, and two products of the gradient.
    assert count_flops(jax.grad(stack, (0, 1)), *args) == 5 * 4 * one


def test_convolutions():
    def convolve(x, kernel):
        return jax.lax.conv_general_dilated(
            x, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    found = count_flops(convolve, shape(2, 8, 8, 3), shape(3, 3, 3, 5))
    assert found == 2 * (2 * 4 * 4 * 5) * (3 * 3 * 3)


def test_kernels_and_what_each_device_does():
    arrays = [shape(2, 256, 2, 64)] * 3
    # One block of 256 x 256 a head, masked: two products.
    block = 2 * 2 * 256 * 256 * 64
    assert count_flops(splash_causal, *arrays) == 4 * block
    # Two parts of 192 and 64 queries leave out what lies behind them.
    assert count_flops(causal_attention, *arrays) == 4 * block * (
        (192 * 192 + 64 * 256) / 256**2
    )
    with jax.set_mesh(make_mesh(MeshConfig(data=2, tensor=2), jax.devices()[:4])):
        assert count_flops(over_heads(splash_causal), *arrays) == 4 * block


def test_axes_that_are_left_to_the_compiler_count_once():
    """Two workers of two devices: each product is of half of the rows."""
    each = jax.sharding.PartitionSpec("data")

    def products(x):
        run = jax.shard_map(
            lambda x: x @ x.T, in_specs=each, out_specs=each, axis_names={"data"}
        )
        return run(x)

    with jax.set_mesh(make_mesh(MeshConfig(data=2, tensor=2), jax.devices()[:4])):
        assert count_flops(products, shape(4, 8)) == 2 * (2 * 2 * 2 * 8)


def test_results_of_products():
    def function(x, w):
        return jnp.einsum("ij,jk->ik", jnp.tanh(x), w) @ w

    assert product_bytes(function, shape(4, 8), shape(8, 8)) == 2 * 4 * 8 * 4
