import jax
import jax.numpy as jnp
import numpy as np

from cogjax.ops.logits import guide, keep_top_k, keep_top_p, sample


def test_top_k_keeps_ties():
    kept = np.isfinite(keep_top_k(jnp.array([[3.0, 1.0, 2.0, 2.0, 0.0]]), 2))
    np.testing.assert_array_equal(kept, [[True, False, True, True, False]])


def test_top_k_of_zero_or_everything_keeps_all():
    logits = jnp.arange(4.0)
    for k in (0, 4, 9):
        np.testing.assert_array_equal(keep_top_k(logits, k), logits)


def test_top_p_cuts_each_row_on_its_own():
    probs = np.array([[0.5, 0.3, 0.15, 0.05], [0.05, 0.05, 0.1, 0.8]])
    kept = np.isfinite(keep_top_p(jnp.log(probs), 0.7))
    expected = [[True, True, False, False], [False, False, False, True]]
    np.testing.assert_array_equal(kept, expected)
    for row in range(2):
        alone = np.isfinite(keep_top_p(jnp.log(probs[row : row + 1]), 0.7))
        np.testing.assert_array_equal(alone[0], kept[row])


def test_guidance():
    c, u = jnp.array([1.0, 2.0]), jnp.array([0.0, 4.0])
    np.testing.assert_allclose(guide(c, u, 1.0), c)
    np.testing.assert_allclose(guide(c, u, 0.0), u)
    np.testing.assert_allclose(guide(c, u, 3.0), [3.0, -2.0])


def test_a_row_does_not_depend_on_its_batch():
    keys = jax.random.split(jax.random.key(0), 8)
    logits = jax.random.normal(jax.random.key(1), (8, 50))
    kwargs = {"temperature": 0.7, "top_k": 20, "top_p": 0.9}
    together = sample(keys, logits, **kwargs)
    alone = [sample(keys[i : i + 1], logits[i : i + 1], **kwargs)[0] for i in range(8)]
    np.testing.assert_array_equal(together, alone)


def test_frequencies_follow_the_temperature():
    logits = jnp.log(jnp.array([0.6, 0.3, 0.1]))
    keys = jax.random.split(jax.random.key(0), 20000)
    tiled = jnp.broadcast_to(logits, (20000, 3))
    drawn = sample(keys, tiled, temperature=0.5, top_k=0, top_p=1.0)
    expected = np.array([0.36, 0.09, 0.01]) / 0.46
    np.testing.assert_allclose(np.bincount(drawn) / 20000, expected, atol=0.012)
