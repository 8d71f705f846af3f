import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cogjax.ops.masks import three_region_mask
from cogjax.ops.pivot_attention import (
    Window,
    fixed_codes,
    place_pivots,
    random_codes,
    three_region_attention,
)
from tests.reference import numeric

# Fits into blocks of 4, and does not: the oracle is then of the next multiple.
LENGTHS = (24, 22)
DTYPES = {"float64": 1e-12, "float32": 2e-6, "bfloat16": 2e-2, "float16": 3e-3}
attend = jax.jit(three_region_attention, static_argnames=("window", "alpha"))


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


def window(length, times=2):
    """Blocks of 4, and 6 pivots."""
    return Window.of(4, times, length, 6)


def pivots(length):
    """Others in each row, some inside of a window."""
    return np.array([[0, 1, 2, 9, 13, 17], [0, 1, 3, 4, 16, length - 1]])


@pytest.mark.parametrize("times", [1, 2, 9])
@pytest.mark.parametrize("length", LENGTHS)
def test_equals_the_mask(length, times):
    arrays = inputs(length)
    got = attend(*arrays, pivots(length), window(length, times))
    want = numeric.attention(*arrays, *oracle(pivots(length), length, 4, times))
    np.testing.assert_allclose(got, want, atol=2e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_dtypes(dtype):
    arrays = inputs(22, dtype)
    with jax.enable_x64(dtype == "float64"):
        got = attend(*arrays, pivots(22), window(22))
    assert got.dtype == dtype
    got = np.asarray(got, np.float64)
    want = numeric.attention(*arrays, *oracle(pivots(22), 22, 4, 2))
    np.testing.assert_allclose(got, want, rtol=0, atol=DTYPES[dtype])


@jax.jit
def gradients(arrays, weights):
    attend = functools.partial(three_region_attention, window=window(22))
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
    got = attend(*arrays, everything, Window(4, 2, 0.0))
    want = numeric.attention(*arrays, np.tri(24, dtype=bool))
    np.testing.assert_allclose(got, want, atol=2e-6)


def test_nothing_of_size_n_by_n():
    arrays = inputs(256)
    step = jax.grad(
        lambda *x: attend(*x, np.zeros((2, 8), int), Window(8, 2, 1.0)).sum()
    )
    assert "256,256" not in jax.jit(step).lower(*arrays).compile().as_text()


def test_positions_without_a_pivot_are_seen_by_none():
    """Their number in its place: what is gathered there must not matter."""
    arrays, some = inputs(22), np.array([[0, 9, 22, 22], [1, 4, 16, 22]])
    got = attend(*arrays, some, Window(4, 2, 1.0))
    found = [three_region_mask(24, 4, 2, row[row < 22])[0] for row in some]
    mask = np.stack(found)[:, None, :22, :22]
    places = np.arange(24)
    far = places[None] // 4 <= places[:, None] // 4 - 2
    want = numeric.attention(*arrays, mask, 1.0 * far[:22, :22])
    np.testing.assert_allclose(got, want, atol=2e-6)


def test_pivots_are_all_text_and_some_codes():
    """Text before and behind codes, an image that lacks one, a prompt without any."""
    is_code = np.array([[0, 0, 1, 1, 1, 0], [0, 1, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0]])
    place = jax.jit(place_pivots, static_argnums=2)
    found = np.asarray(place(np.array([[[0, 2]], [[1, 3]]]), is_code == 1, 4))
    assert found.shape == (2, 3, 6)
    text = [[0, 1, 5, 6], [0, 3, 4, 5], [0, 1, 2, 3]]
    np.testing.assert_array_equal(found[..., :4], [text, text])
    want = [[[2, 4], [1, 6], [6, 6]], [[3, 6], [2, 6], [6, 6]]]
    np.testing.assert_array_equal(found[..., 4:], want)


def test_random_codes_are_different_and_equally_likely():
    chosen = np.asarray(random_codes(jax.random.key(0), (2, 350), 7, 2))
    assert (chosen[..., 0] != chosen[..., 1]).all()
    shares = np.bincount(chosen.ravel(), minlength=7) / 700
    # Two of seven; 5 standard deviations of a share.
    np.testing.assert_allclose(shares, 2 / 7, atol=0.086)


def test_fixed_codes_differ_by_layer_and_stay():
    """A later version must choose the same: models are sampled with them."""
    found = fixed_codes(3, 9, 4)
    np.testing.assert_array_equal(found, fixed_codes(3, 9, 4))
    assert len({tuple(row) for row in found}) == 3
    assert all(list(row) == sorted(set(row)) for row in found)
    np.testing.assert_array_equal(found[:2], [[1, 2, 3, 8], [2, 4, 6, 8]])
