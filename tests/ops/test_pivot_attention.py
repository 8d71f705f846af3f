import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cogjax.ops.masks import three_region_mask
from cogjax.ops.pivot_attention import draw_pivots, three_region_attention

# Fits into blocks of 4, and does not: the oracle is then of the next multiple.
LENGTHS = (24, 22)
DTYPES = {"float64": 1e-12, "float32": 2e-6, "bfloat16": 2e-2, "float16": 3e-3}
attend = jax.jit(three_region_attention, static_argnames=("window", "times", "alpha"))


def inputs(length, dtype=jnp.float32, count=3):
    rng = np.random.default_rng(0)
    shape = (2, length, 2, 4)
    return [jnp.asarray(rng.normal(size=shape), dtype) for _ in range(count)]


def reference(query, key, value, pivots, window, times):
    """Dense attention in the dtype of the inputs under the oracle's mask and bonus."""
    length, found = query.shape[1], []
    for row, chosen in enumerate(np.asarray(pivots)):
        padded = length + -length % window
        mask, bonus = three_region_mask(padded, window, times, chosen)
        bonus = np.where(bonus, np.log(length // len(chosen)), 0)[:length, :length]
        scores = jnp.einsum("tnh,snh->nts", query[row], key[row]) / 2
        scores = jnp.where(mask[:length, :length], scores + bonus, -1e30)
        probs = jax.nn.softmax(scores)
        found.append(jnp.einsum("nts,snh->tnh", probs, value[row]))
    return jnp.stack(found)


def pivots(length):
    """Others in each row, some inside of a window."""
    return jnp.array([[0, 1, 2, 9, 13, 17], [0, 1, 3, 4, 16, length - 1]])


@pytest.mark.parametrize("times", [1, 2, 9])
@pytest.mark.parametrize("length", LENGTHS)
def test_equals_the_mask(length, times):
    arrays = inputs(length)
    got = attend(*arrays, pivots(length), window=4, times=times)
    want = reference(*arrays, pivots(length), 4, times)
    np.testing.assert_allclose(got, want, atol=2e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_dtypes(dtype):
    with jax.enable_x64(True):
        got = attend(*inputs(22, dtype), pivots(22), window=4, times=2)
        exact = [x.astype(jnp.float64) for x in inputs(22, dtype)]
        want = reference(*exact, pivots(22), 4, 2)
    assert got.dtype == dtype
    got = np.asarray(got, np.float64)
    np.testing.assert_allclose(got, want, rtol=0, atol=DTYPES[dtype])


def test_gradients():
    *arrays, weights = inputs(22, count=4)

    def grads(function):
        def loss(arrays):
            return jnp.sum(function(*arrays) * weights)

        return jax.jit(jax.grad(loss))(arrays)

    args = pivots(22), 4, 2
    got = grads(lambda *x: attend(*x, args[0], window=4, times=2))
    for a, b in zip(got, grads(lambda *x: reference(*x, *args)), strict=True):
        np.testing.assert_allclose(a, b, atol=5e-6)


def test_all_pivots_and_a_long_window_are_causal_attention():
    arrays, everything = inputs(24), jnp.tile(jnp.arange(24), (2, 1))
    got = attend(*arrays, everything, window=4, times=2)
    want = attend(*arrays, everything[:, :1], window=24, times=1)
    np.testing.assert_allclose(got, want, atol=2e-6)


def test_nothing_of_size_n_by_n():
    arrays = inputs(256)
    step = jax.grad(
        lambda *x: attend(*x, jnp.zeros((2, 8), int), window=8, times=2).sum()
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
