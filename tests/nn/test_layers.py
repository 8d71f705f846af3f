import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.errors import ScopeParamNotFoundError, ScopeParamShapeError

from cogjax.nn.conv import Conv
from cogjax.nn.layers import Dense, weight
from cogjax.ops.packed import pack

KEY = jax.random.key(0)
X = np.random.default_rng(0).standard_normal((2, 7, 3, 4), "f4")


@pytest.mark.parametrize(
    ("features", "num_axes", "axis"), [((6, 2), 1, -1), ((5,), 2, (-2, -1))]
)
def test_dense_is_that_of_flax(features, num_axes, axis):
    """Values and gradients, with the same parameters."""
    ours, theirs = Dense(features, 0.5, num_axes), nn.DenseGeneral(features, axis=axis)
    params, same = (jax.eval_shape(x.init, KEY, X) for x in (theirs, ours))
    assert params == same
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda x: np.float32(rng.normal(size=x.shape)), params)

    def run(layer):
        def loss(params):
            out = layer.apply(params, X)
            return (out**2).sum(), out

        return jax.jit(jax.value_and_grad(loss, has_aux=True))(params)

    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4),
        run(ours),
        run(theirs),
    )


def test_dense_with_packed_weights():
    layer, rng = Dense((6, 2), 0.5, 2), np.random.default_rng(1)
    kernel, bias = np.float32(rng.normal(size=(12, 12))), np.ones((6, 2), np.float32)
    packed = {"kernel": pack(kernel.T, "float32"), "bias": bias}
    got = jax.jit(layer.apply)({"params": packed}, X)
    want = (X.reshape(14, 12) @ kernel).reshape(2, 7, 6, 2) + bias
    assert got.shape == (2, 7, 6, 2)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def test_dense_starts_at_its_deviation():
    kernel = jax.jit(Dense((400,), 0.02).init)(KEY, np.ones((1, 300), np.float32))
    assert abs(float(kernel["params"]["kernel"].std()) - 0.02) < 0.001
    assert not kernel["params"]["bias"].any()


def test_stored_parameters_are_not_initialised_again():
    """Applying traces no initialiser, which Flax's own modules do."""
    calls = []

    def init(key, shape, dtype=jnp.float32):
        calls.append(shape)
        return jnp.ones(shape, dtype)

    class Layer(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = Conv(4, (1, 1), kernel_init=init, name="conv")(x)
            return x * weight(self, "scale", init, (4,))

    x = jnp.ones((1, 2, 2, 3))
    params = Layer().init(jax.random.key(0), x)
    assert set(calls) == {(1, 1, 3, 4), (4,)}
    calls.clear()
    np.testing.assert_allclose(Layer().apply(params, x), 3)
    assert calls == []


@pytest.mark.parametrize("layer", [Dense((4,), 0.1), Conv(4, (1, 1))], ids=repr)
def test_parameters_that_do_not_fit(layer):
    x = np.ones((1, 2, 2, 3), np.float32)
    params = jax.jit(layer.init)(KEY, x)
    with pytest.raises(ScopeParamShapeError, match="kernel"):
        layer.apply(params, x[..., :2])
    with pytest.raises(ScopeParamNotFoundError, match="bias"):
        layer.apply({"params": {"kernel": params["params"]["kernel"]}}, x)
