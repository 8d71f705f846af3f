import functools

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


@functools.partial(jax.jit, static_argnames=("scope", "epsilon"))
def norm(x, scope, epsilon=1e-5):
    width = x.shape[-1]
    ones, zeros = jnp.ones(width), jnp.zeros(width)
    return relaxed_layer_norm(x, ones, zeros, epsilon=epsilon, scope=scope)


SOFTMAX = jax.jit(relaxed_softmax, static_argnums=1)


def inputs(dtype, size=1.0, shape=(2, 3, 16)):
    x = np.random.default_rng(0).normal(size=shape) * size
    return x.astype(jnp.dtype(dtype))


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
    peak = np.abs(x).max()
    expected = reference(x, 0.1 * peak**2 / 64)
    np.testing.assert_allclose(norm(x, "tensor", 0.1), expected, atol=1e-5)
    assert np.abs(np.asarray(norm(x, "none", 0.1)) - expected).max() > 1e-2


def test_only_the_token_scope_ignores_the_batch():
    x = inputs("float32")
    other = x * np.float32([1, 1000])[:, None, None]
    for scope, same in (("token", True), ("sample", True), ("tensor", False)):
        found, beside = (np.asarray(norm(y, scope, 0.1))[0] for y in (x, other))
        assert np.array_equal(found, beside) == same, scope


def test_zeros_stay_zeros():
    assert not np.asarray(norm(np.zeros((2, 3, 4), np.float32), "token")).any()


def test_layer_norm_gradient_equals_the_plain_one():
    """The scale is held constant, and cancels: the gradient is LayerNorm's own."""
    x = inputs("float32")
    weights = np.float32(np.random.default_rng(1).normal(size=x.shape))

    def gradient(x, scope):
        return jax.grad(lambda x: jnp.sum(weights * norm(x, scope, 0.0)))(x)

    grads = jax.jit(lambda x: [gradient(x, s) for s in ("tensor", "none")])(x)
    np.testing.assert_allclose(*grads, atol=1e-4)


@pytest.mark.parametrize("dtype", DTYPES)
def test_softmax_equals_float64(dtype):
    scores = inputs(dtype, size=3.0)
    scores = (scores / 32).astype(scores.dtype)
    got = SOFTMAX(scores, 32.0)
    wide = np.asarray(scores, np.float64) * 32
    expected = np.exp(wide - wide.max(-1, keepdims=True))
    expected /= expected.sum(-1, keepdims=True)
    np.testing.assert_allclose(
        np.asarray(got, np.float64), expected, atol=DTYPES[dtype]
    )


def test_softmax_of_scores_beyond_fp16_is_finite():
    scores = np.array([[60000.0, 59968.0, -60000.0]], "float16")
    with np.errstate(over="ignore"):
        assert not np.isfinite(scores * np.float16(32)).all()
    probs = np.asarray(SOFTMAX(scores, 32.0), np.float64)
    np.testing.assert_allclose(probs, [[1, 0, 0]], atol=1e-6)


def test_shrink_gradient():
    x = inputs("float32")

    def loss(x):
        shrunk = shrink_gradient(x, 0.1)
        return jnp.sum(shrunk**2), shrunk

    grad, same = jax.jit(jax.grad(loss, has_aux=True))(x)
    np.testing.assert_allclose(same, x, rtol=1e-6)
    np.testing.assert_allclose(grad, 0.2 * x, rtol=1e-5)
