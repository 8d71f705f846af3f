import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cogjax.ops.packed import FEW_ROWS, dense, pack, product


def arrays(dtype, *shapes):
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.normal(size=shape), dtype) for shape in shapes]


@pytest.mark.parametrize(
    "x_shape, kernel_shape, num_axes, formula",
    [
        ((5, 4), (4, 3), 1, "ti,io->to"),
        ((2, 5, 4), (4, 3, 2, 6), 1, "bti,ionh->btonh"),
        ((2, 5, 3, 4), (3, 4, 6), 2, "btnh,nho->bto"),
    ],
)
def test_values_and_gradients(x_shape, kernel_shape, num_axes, formula):
    x, kernel = arrays(jnp.float32, x_shape, kernel_shape)
    out, pullback = jax.vjp(lambda *args: dense(*args, num_axes), x, kernel)
    want, wanted = jax.vjp(lambda *args: jnp.einsum(formula, *args), x, kernel)
    np.testing.assert_allclose(out, want, rtol=1e-5, atol=1e-5)
    [grad] = arrays(jnp.float32, out.shape)
    for a, b in zip(pullback(grad), wanted(grad), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_gradients_keep_the_dtype(dtype):
    x, kernel = arrays(dtype, (2, 5, 4), (4, 3))
    for grad, of in zip(
        jax.grad(lambda *args: dense(*args).sum(), (0, 1))(x, kernel),
        (x, kernel),
        strict=True,
    ):
        assert grad.dtype == dtype and grad.shape == of.shape


@pytest.mark.parametrize("num_rows", [1, 8, FEW_ROWS + 1])
@pytest.mark.parametrize(
    ("weights", "tolerance"), [("float32", 1e-6), ("bfloat16", 6e-3), ("int8", 0.015)]
)
def test_packed_products(num_rows, weights, tolerance):
    x, kernel = arrays(jnp.float32, (num_rows, 1, 64), (64, 24))
    packed = pack(kernel.T, weights)
    out, want = jax.jit(product)(x, packed), x @ kernel
    assert out.shape == want.shape
    scale = float(jnp.abs(want).max())
    np.testing.assert_allclose(out / scale, want / scale, atol=tolerance)
    assert packed.rows.dtype == weights


def test_packed_rows():
    [table] = arrays(jnp.float32, (40, 16))
    packed = pack(table, "int8")
    ids = jnp.array([[3, 39], [0, 3]])
    got = packed[ids].astype(jnp.float32)
    np.testing.assert_allclose(got, table[ids], atol=0.02)
    np.testing.assert_array_equal(packed[3:9].rows, packed.rows[3:9])
    assert jax.tree.leaves(packed)[0].nbytes * 4 == table.nbytes


def test_packing_zeros():
    packed = pack(jnp.zeros((2, 3)), "int8")
    np.testing.assert_array_equal(packed.astype(jnp.float32), jnp.zeros((2, 3)))
