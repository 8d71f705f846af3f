import jax
import numpy as np

from cogjax.ops.rotary import grid_rotation, rotate


def turned(x, position, num_text, grid, base):
    """A vector [h] at a position, as complex numbers in float64."""
    if position < num_text:
        return np.zeros_like(x)
    pairs = x[0::2] + 1j * x[1::2]
    quarter = len(pairs) // 2
    rates = base ** -(np.arange(quarter) / quarter)
    place = position - num_text
    angles = np.concatenate([place // grid * rates, place % grid * rates])
    pairs = pairs * np.exp(1j * angles)
    return np.stack([pairs.real, pairs.imag], axis=-1).reshape(-1)


def test_rows_and_columns_turn_pairs():
    """A row each of its own positions, prompts among them."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 5, 3, 8)).astype(np.float32)
    positions = np.array([[0, 1, 2, 9, 10], [2, 3, 5, 7, 1]])
    rotation = jax.jit(lambda x: grid_rotation(x, 2, (3, 3), 8, 100.0))(positions)
    turn = jax.jit(rotate)
    found = np.asarray(turn(x, rotation))
    for b, t, n in np.ndindex(2, 5, 3):
        expected = turned(x[b, t, n].astype(np.float64), positions[b, t], 2, 3, 100.0)
        np.testing.assert_allclose(found[b, t, n], expected, atol=1e-5)
    half = turn(x.astype("bfloat16"), rotation)
    assert half.dtype == "bfloat16"
    np.testing.assert_allclose(np.float32(half), found, atol=0.05)
