import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cogjax.ops.precision import relaxed_layer_norm, relaxed_softmax, shrink_gradient

DTYPES = {"float32": 1e-5, "bfloat16": 3e-2, "float16": 4e-3}


def reference(x, epsilon):
    x = np.asarray(x, np.float64)
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt(np.square(centred).mean(-1, keepdims=True) + epsilon)


def norm(x, scope, epsilon=1e-5):
    width = x.shape[-1]
    ones, zeros = jnp.ones(width), jnp.zeros(width)
    return relaxed_layer_norm(x, ones, zeros, epsilon=epsilon, scope=scope)


def inputs(dtype, size=1.0, shape=(2, 3, 16)):
    x = np.random.default_rng(0).normal(size=shape) * size
    return jnp.asarray(x, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scope", ["tensor", "sample", "token", "none"])
def test_layer_norm_equals_float64(dtype, scope):
    x = inputs(dtype)
    got = norm(x, scope)
    assert got.dtype == x.dtype
    np.testing.assert_allclose(
        np.asarray(got, np.float64), reference(x, 1e-5), atol=DTYPES[dtype] * 4
    )


@pytest.mark.parametrize("scope", ["tensor", "sample", "token"])
def test_large_fp16_activations_overflow_without_the_relaxation(scope):
    x = inputs("float16", size=8000.0)
    # The square of a few hundred is the end of fp16: the variance is infinite and
    # the normalised output collapses to zero.
    plain = np.asarray(norm(x, "none"), np.float64)
    assert np.abs(plain - reference(x, 0)).max() > 0.5
    relaxed = np.asarray(norm(x, scope), np.float64)
    np.testing.assert_allclose(relaxed, reference(x, 0), atol=1e-2)


def test_epsilon_is_that_of_the_identity():
    """Dividing by max|x| / 8 is LayerNorm with epsilon * max|x|^2 / 64."""
    x = inputs("float32") * 100
    peak = float(jnp.abs(x).max())
    expected = reference(x, 0.1 * peak**2 / 64)
    np.testing.assert_allclose(norm(x, "tensor", 0.1), expected, atol=1e-5)
    assert np.abs(np.asarray(norm(x, "none", 0.1)) - expected).max() > 1e-2


def test_only_the_token_scope_ignores_the_batch():
    x = inputs("float32")
    other = x.at[1].multiply(1000.0)
    for scope, same in (("token", True), ("sample", True), ("tensor", False)):
        equal = np.array_equal(norm(x, scope, 0.1)[0], norm(other, scope, 0.1)[0])
        assert equal == same, scope


def test_zeros_stay_zeros():
    assert not np.asarray(norm(jnp.zeros((2, 3, 4)), "token")).any()


def test_layer_norm_gradient_equals_the_plain_one():
    """The scale is held constant, and cancels: the gradient is LayerNorm's own."""
    x = inputs("float32")
    weights = jnp.asarray(np.random.default_rng(1).normal(size=x.shape), jnp.float32)
    grads = [
        jax.grad(lambda x, s=scope: jnp.sum(weights * norm(x, s, 0.0)))(x)
        for scope in ("tensor", "none")
    ]
    np.testing.assert_allclose(*grads, atol=1e-4)


@pytest.mark.parametrize("dtype", DTYPES)
def test_softmax_equals_float64(dtype):
    scores = inputs(dtype, size=3.0)
    got = relaxed_softmax(jnp.asarray(scores / 32, dtype), 32.0)
    wide = np.asarray(scores / 32, np.float64) * 32
    expected = np.exp(wide - wide.max(-1, keepdims=True))
    expected /= expected.sum(-1, keepdims=True)
    np.testing.assert_allclose(
        np.asarray(got, np.float64), expected, atol=DTYPES[dtype]
    )


def test_softmax_of_scores_beyond_fp16_is_finite():
    scores = jnp.asarray([[60000.0, 59968.0, -60000.0]], "float16")
    assert not np.isfinite(np.asarray(scores * 32)).all()
    probs = np.asarray(relaxed_softmax(scores, 32.0), np.float64)
    np.testing.assert_allclose(probs, [[1, 0, 0]], atol=1e-6)


def test_shrink_gradient():
    x = inputs("float32")
    np.testing.assert_allclose(shrink_gradient(x, 0.1), x, rtol=1e-6)
    grad = jax.grad(lambda x: jnp.sum(shrink_gradient(x, 0.1) ** 2))(x)
    np.testing.assert_allclose(grad, 0.2 * x, rtol=1e-5)
