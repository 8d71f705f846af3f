import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cogjax.ops.matmul import dense, dot_general


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


@pytest.mark.parametrize("axis", [-1, (-2, -1)])
def test_as_a_part_of_flax_layers(axis):
    [x] = arrays(jnp.float32, (2, 5, 3, 4))
    ours, theirs = (
        nn.DenseGeneral((6, 2), axis=axis, dot_general=f) for f in (dot_general, None)
    )
    params = theirs.init(jax.random.key(0), x)

    def grads(layer):
        return jax.jit(jax.grad(lambda p: (layer.apply(p, x) ** 2).sum()))(params)

    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4),
        grads(ours),
        grads(theirs),
    )


def test_the_weight_gradient_needs_no_transpose():
    x, kernel = arrays(jnp.float32, (2, 5, 4), (4, 3))

    def count(function):
        jaxpr = jax.make_jaxpr(jax.grad(lambda k: (function(x, k) ** 2).sum()))(kernel)
        return sum(eqn.primitive.name == "transpose" for eqn in jaxpr.jaxpr.eqns)

    assert count(lambda x, k: jnp.einsum("bti,io->bto", x, k)) == 1
    assert count(dense) == 0
