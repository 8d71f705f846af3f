import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cogjax.ops.attention import (
    attention,
    causal_attention,
    without_padding,
)
from tests.reference import numeric


def inputs(dtype, size=1.0):
    rng = np.random.default_rng(0)
    shape, dtype = (2, 5, 3, 4), jnp.dtype(dtype)
    return [(rng.normal(size=shape) * size).astype(dtype) for _ in range(3)]


def reference(query, key, value, mask):
    return numeric.attention(query, key, value, np.asarray(mask)[:, None])


ATTENTION = jax.jit(attention, static_argnames="alpha")


def mask():
    return np.tri(5, dtype=bool)[None]


@pytest.mark.parametrize("alpha", [1.0, 32.0])
@pytest.mark.parametrize(
    ("dtype", "atol"), [("float32", 1e-5), ("bfloat16", 4e-2), ("float16", 5e-3)]
)
def test_equals_float64(dtype, atol, alpha):
    args = inputs(dtype)
    got = ATTENTION(*args, mask(), alpha=alpha)
    assert got.dtype == jnp.dtype(dtype)
    expected = reference(*args, mask())
    np.testing.assert_allclose(np.asarray(got, np.float64), expected, atol=atol)


@functools.partial(jax.jit, static_argnames="chunk")
def parts_and_gradients(args, chunk):
    out, back = jax.vjp(lambda *x: causal_attention(*x, chunk=chunk), *args)
    return out, back(jnp.cos(out))


@jax.jit
def masked_gradients(args):
    return jax.grad(lambda x: jnp.sum(jnp.sin(attention(*x, mask()))))(args)


@pytest.mark.parametrize("chunk", [1, 2, 5, 8])
@pytest.mark.parametrize(
    ("dtype", "atol"), [("float32", 1e-5), ("bfloat16", 4e-2), ("float16", 5e-3)]
)
def test_causal_parts_equal_the_mask(dtype, atol, chunk):
    """Values against float64, gradients against the masked form."""
    args = inputs(dtype)
    got, grads = parts_and_gradients(args, chunk)
    assert got.dtype == jnp.dtype(dtype)
    expected = reference(*args, mask())
    np.testing.assert_allclose(np.asarray(got, np.float64), expected, atol=atol)
    wanted = masked_gradients(args)
    for a, b in zip(grads, wanted, strict=True):
        a, b = (np.asarray(x, np.float64) for x in (a, b))
        np.testing.assert_allclose(a, b, atol=4 * atol)


def test_causal_parts_hold_no_square(compiled_text):
    args = [jnp.zeros((1, 1024, 1, 8))] * 3
    grad = jax.jit(jax.grad(lambda *x: causal_attention(*x).sum()))
    assert "1024,1024" not in compiled_text(grad, *args)


def test_large_fp16_scores_overflow_without_the_relaxation():
    query, key, value = inputs("float16", 300.0)
    value = value / 300
    plain = ATTENTION(query, key, value, mask(), alpha=1.0)
    # exact scores reach beyond 65504: infinities meet and give NaN
    assert not np.isfinite(np.asarray(plain)).all()
    relaxed = ATTENTION(query, key, value, mask(), alpha=32.0)
    expected = reference(query, key, value, mask())
    np.testing.assert_allclose(np.asarray(relaxed, np.float64), expected, atol=2e-2)


def test_scale_order():
    """The query is divided first: a product that overflows on its own stays finite."""
    query = np.full((1, 1, 1, 64), 40, "float16")
    key = np.full((1, 2, 1, 64), 40, "float16")
    value = np.ones((1, 2, 1, 64), "float16")
    everything = np.ones((1, 1, 2), bool)
    scores = jax.jit(lambda q, k: jnp.einsum("btnh,bsnh->bnts", q, k))
    assert not np.isfinite(np.asarray(scores(query, key))).all()
    out = ATTENTION(query, key, value, everything)
    np.testing.assert_allclose(np.asarray(out, np.float32), 1.0)


def test_masked_keys_get_no_weight_and_no_gradient():
    query, key, value = inputs("float32")
    changed = value.copy()
    changed[:, 4] += 100

    @jax.jit
    def run(value):
        out, back = jax.vjp(lambda v: attention(query, key, v, mask()), value)
        return out[:, :4], back(jnp.ones_like(out).at[:, 4:].set(0))[0]

    (out, grad), (other, _) = run(value), run(changed)
    np.testing.assert_array_equal(out, other)
    grad = np.asarray(grad)
    assert not grad[:, 4].any() and grad[:, :4].any()


def test_padding_is_hidden_but_no_row_is_empty():
    causal = np.tri(5, dtype=bool)
    without = jax.jit(lambda visible: without_padding(causal, visible))
    np.testing.assert_array_equal(without(None), causal[None])
    # It tells of the first three positions; what is behind them is no padding.
    visible = np.array([[True, True, True], [False, False, True]])
    padded = np.asarray(without(visible))
    np.testing.assert_array_equal(padded[0], causal)
    np.testing.assert_array_equal(padded[1, :, 2:], causal[:, 2:])
    assert not padded[1, 2:, :2].any()
    np.testing.assert_array_equal(padded[1, :2, :2], np.eye(2, dtype=bool))
