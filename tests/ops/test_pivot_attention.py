import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cogjax.ops.masks import three_region_mask
from cogjax.ops.pivot_attention import draw_pivots, three_region_attention
from tests.reference import numeric

# Fits into blocks of 4, and does not: the oracle is then of the next multiple.
LENGTHS = (24, 22)
DTYPES = {"float64": 1e-12, "float32": 2e-6, "bfloat16": 2e-2, "float16": 3e-3}
attend = jax.jit(three_region_attention, static_argnames=("window", "times", "alpha"))


def inputs(length, dtype=np.float32, count=3):
    rng = np.random.default_rng(0)
    shape = (2, length, 2, 4)
    return [rng.normal(size=shape).astype(jnp.dtype(dtype)) for _ in range(count)]


def oracle(pivots, length, window, times):
    """(mask, bonus) [2, 1, s, s] of the rows."""
    padded = length + -length % window
    found = [three_region_mask(padded, window, times, row) for row in pivots]
    mask, bonus = (
        np.stack(x)[:, None, :length, :length] for x in zip(*found, strict=True)
    )
    return mask, np.where(bonus, np.log(length // pivots.shape[1]), 0)


def pivots(length):
    """Others in each row, some inside of a window."""
    return np.array([[0, 1, 2, 9, 13, 17], [0, 1, 3, 4, 16, length - 1]])


@pytest.mark.parametrize("times", [1, 2, 9])
@pytest.mark.parametrize("length", LENGTHS)
def test_equals_the_mask(length, times):
    arrays = inputs(length)
    got = attend(*arrays, pivots(length), window=4, times=times)
    want = numeric.attention(*arrays, *oracle(pivots(length), length, 4, times))
    np.testing.assert_allclose(got, want, atol=2e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_dtypes(dtype):
    arrays = inputs(22, dtype)
    with jax.enable_x64(dtype == "float64"):
        got = attend(*arrays, pivots(22), window=4, times=2)
    assert got.dtype == dtype
    got = np.asarray(got, np.float64)
    want = numeric.attention(*arrays, *oracle(pivots(22), 22, 4, 2))
    np.testing.assert_allclose(got, want, rtol=0, atol=DTYPES[dtype])


@jax.jit
def gradients(arrays, weights):
    attend = functools.partial(three_region_attention, window=4, times=2)
    _, back = jax.vjp(lambda *x: attend(*x, pivots(22)), *arrays)
    return back(weights)


def test_gradients():
    *arrays, weights = inputs(22, count=4)
    masks = oracle(pivots(22), 22, 4, 2)
    want = numeric.attention_gradients(arrays, weights, *masks)
    for a, b in zip(gradients(arrays, weights), want, strict=True):
        np.testing.assert_allclose(a, b, atol=5e-6)


def test_all_pivots_and_a_long_window_are_causal_attention():
    arrays, everything = inputs(24), np.tile(np.arange(24), (2, 1))
    got = attend(*arrays, everything, window=4, times=2)
    want = numeric.attention(*arrays, np.tri(24, dtype=bool))
    np.testing.assert_allclose(got, want, atol=2e-6)


def test_nothing_of_size_n_by_n():
    arrays = inputs(256)
    step = jax.grad(
        lambda *x: attend(*x, np.zeros((2, 8), int), window=8, times=2).sum()
    )
    assert "256,256" not in jax.jit(step).lower(*arrays).compile().as_text()


def test_pivots_are_all_text_and_some_of_the_rest():
    is_text = jnp.array(
        [[1, 1, 1, 0, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 1, 1, 1]]
    )
    draw = jax.jit(jax.vmap(lambda key: draw_pivots(key, is_text, 5)))
    chosen = np.asarray(draw(jax.random.split(jax.random.key(0), 700)))
    shares = np.zeros((2, 10))
    for row in range(2):
        assert all(len(set(p)) == 5 for p in chosen[:, row])
        shares[row] = np.bincount(chosen[:, row].ravel(), minlength=10) / 700
    np.testing.assert_array_equal(shares[np.asarray(is_text, bool)], 1.0)
    # Two of seven; 5 standard deviations of a share.
    np.testing.assert_allclose(shares[~np.asarray(is_text, bool)], 2 / 7, atol=0.086)


def test_more_pivots_than_positions():
    with pytest.raises(ValueError, match="num_pivots is 9, expected from 1"):
        draw_pivots(jax.random.key(0), jnp.zeros((1, 8), bool), 9)
