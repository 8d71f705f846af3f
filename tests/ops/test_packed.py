import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cogjax.ops.packed import FEW_ROWS, dense, pack, product, scores

PACK, PRODUCT = jax.jit(pack, static_argnums=1), jax.jit(product)


def arrays(dtype, *shapes):
    rng = np.random.default_rng(0)
    return [rng.normal(size=shape).astype(jnp.dtype(dtype)) for shape in shapes]


@pytest.mark.parametrize(
    "x_shape, kernel_shape, num_axes, formula",
    [
        ((5, 4), (4, 3), 1, "ti,io->to"),
        ((2, 5, 4), (4, 3, 2, 6), 1, "bti,ionh->btonh"),
        ((2, 5, 3, 4), (3, 4, 6), 2, "btnh,nho->bto"),
    ],
)
def test_values_and_gradients(x_shape, kernel_shape, num_axes, formula):
    args = arrays("float32", x_shape, kernel_shape)
    einsum = functools.partial(jnp.einsum, formula)

    @jax.jit
    def run(*args):
        found = []
        for form in (lambda *args: dense(*args, num_axes), einsum):
            out, pullback = jax.vjp(form, *args)
            found.append((out, pullback(jnp.cos(out))))
        return found

    (out, grads), (want, wanted) = run(*args)
    np.testing.assert_allclose(out, want, rtol=1e-5, atol=1e-5)
    for a, b in zip(grads, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_gradients_keep_the_dtype(dtype):
    x, kernel = arrays(dtype, (2, 5, 4), (4, 3))
    gradient = jax.jit(jax.grad(lambda *args: dense(*args).sum(), (0, 1)))
    for grad, of in zip(gradient(x, kernel), (x, kernel), strict=True):
        assert grad.dtype == dtype and grad.shape == of.shape


@pytest.mark.parametrize("num_rows", [1, 8, FEW_ROWS + 1])
@pytest.mark.parametrize(
    ("weights", "tolerance"), [("float32", 1e-6), ("bfloat16", 6e-3), ("int8", 0.015)]
)
def test_packed_products(num_rows, weights, tolerance):
    x, kernel = arrays("float32", (num_rows, 1, 64), (64, 24))
    packed = PACK(kernel.T, weights)
    out, want = PRODUCT(x, packed), x @ kernel
    assert out.shape == want.shape
    scale = np.abs(want).max()
    np.testing.assert_allclose(out / scale, want / scale, atol=tolerance)
    assert packed.rows.dtype == weights


def test_packed_rows():
    [table] = arrays("float32", (40, 16))
    packed = PACK(table, "int8")
    ids = np.array([[3, 39], [0, 3]])
    look = jax.jit(lambda packed, ids: (packed[ids].astype(jnp.float32), packed[3:9]))
    got, part = look(packed, ids)
    np.testing.assert_allclose(got, table[ids], atol=0.02)
    np.testing.assert_array_equal(part.rows, np.asarray(packed.rows)[3:9])
    assert jax.tree.leaves(packed)[0].nbytes * 4 == table.nbytes


def test_packing_zeros():
    packed = PACK(np.zeros((2, 3), np.float32), "int8")
    np.testing.assert_array_equal(packed.astype(jnp.float32), np.zeros((2, 3)))


def rounded(x):
    return x.astype(jnp.bfloat16).astype(np.float64)


@pytest.mark.parametrize(
    "x_shape, kernel_shape, num_axes",
    [((5, 4), (4, 3), 1), ((2, 5, 4), (4, 3, 2, 6), 1), ((2, 5, 3, 4), (3, 4, 6), 2)],
)
def test_factors_are_rounded_and_sums_are_not(x_shape, kernel_shape, num_axes):
    """Beside float64 of rounded factors; each is 1e-3 off without its rounding."""
    x, kernel = arrays("float32", x_shape, kernel_shape)
    [grad] = arrays("float32", (*x_shape[:-num_axes], *kernel_shape[num_axes:]))

    @jax.jit
    def run(x, kernel, grad):
        out, pullback = jax.vjp(lambda *args: dense(*args, num_axes), x, kernel)
        return out, *pullback(grad)

    plain = jax.device_get(run(x, kernel, grad))
    with jax.default_matmul_precision("bfloat16"):
        found = jax.device_get(run(x, kernel, grad))
    rows = rounded(x).reshape(-1, int(np.prod(kernel_shape[:num_axes])))
    matrix, back = rounded(kernel).reshape(rows.shape[1], -1), rounded(grad)
    back = back.reshape(len(rows), -1)
    wanted = rows @ matrix, back @ matrix.T, rows.T @ back
    for one, want, other in zip(found, wanted, plain, strict=True):
        assert one.dtype == jnp.float32 and one.shape == other.shape
        np.testing.assert_allclose(one.ravel(), want.ravel(), rtol=1e-5, atol=1e-5)
        assert np.abs(one - other).max() > 1e-4


def test_scores_are_rounded_alike():
    x, table, grad = arrays("float32", (2, 5, 4), (7, 4), (2, 5, 7))

    @jax.jit
    def run(x, table, grad):
        out, pullback = jax.vjp(scores, x, table)
        return out, *pullback(grad)

    plain = jax.device_get(run(x, table, grad))
    with jax.default_matmul_precision("bfloat16"):
        found = jax.device_get(run(x, table, grad))
    for factors, results in ((rounded, found), (np.float64, plain)):
        rows, back = factors(x).reshape(-1, 4), factors(grad).reshape(-1, 7)
        wanted = rows @ factors(table).T, back @ factors(table), back.T @ rows
        for one, want in zip(results, wanted, strict=True):
            np.testing.assert_allclose(one.ravel(), want.ravel(), rtol=1e-5, atol=1e-5)
