import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cogjax.ops.logits import guide, sample, sample_probs, token_probs

PROBS, DRAW, DRAW_PROBS = map(jax.jit, (token_probs, sample, sample_probs))


def kept(logits, top_k=None, top_p=None):
    """Which tokens can be drawn at all: bool [b, v]."""
    return np.asarray(PROBS(np.asarray(logits, "f4"), 1.0, top_k, top_p)) > 0


def test_top_k_keeps_ties():
    found = kept([[3.0, 1.0, 2.0, 2.0, 0.0]], top_k=2)
    np.testing.assert_array_equal(found, [[True, False, True, True, False]])


def test_top_k_of_everything_keeps_all():
    """Also of more than there are, which a traced number may be."""
    for k in (4, 9, 2**31 - 1):
        assert kept([[-1.0, 0.0, 1.0, 2.0]], top_k=k).all()


def test_top_p_cuts_each_row_on_its_own():
    probs = np.array([[0.5, 0.3, 0.15, 0.05], [0.05, 0.05, 0.1, 0.8]])
    found = kept(np.log(probs), top_p=0.7)
    expected = [[True, True, False, False], [False, False, False, True]]
    np.testing.assert_array_equal(found, expected)
    for row in range(2):
        alone = kept(np.log(probs[row : row + 1]), top_p=0.7)
        np.testing.assert_array_equal(alone[0], found[row])


def test_top_p_stops_where_its_share_is_reached():
    """Beside 1 + 1 what is very rare is rounded away: two have all of the sum."""
    found = kept(np.array([[0.0, -20.0, 0.0]]), top_p=1.0)
    np.testing.assert_array_equal(found, [[True, False, True]])


def test_guidance():
    c, u = np.float32([1, 2]), np.float32([0, 4])
    np.testing.assert_allclose(guide(c, u, 1.0), c)
    np.testing.assert_allclose(guide(c, u, 0.0), u)
    np.testing.assert_allclose(guide(c, u, 3.0), [3.0, -2.0])


def test_a_row_does_not_depend_on_its_batch():
    rng, cuts = np.random.default_rng(0), (0.7, 20, 0.9)
    uniforms, logits = rng.random(8, "f4"), rng.standard_normal((8, 50), "f4")
    together = DRAW(uniforms, logits, *cuts)
    alone = [DRAW(uniforms[i : i + 1], logits[i : i + 1], *cuts) for i in range(8)]
    np.testing.assert_array_equal(together, np.concatenate(alone))


@pytest.mark.parametrize("cuts", [(None, None), (None, 0.95), (20, 0.95)])
def test_small_temperatures_take_the_likeliest_token(cuts):
    """Down to numbers whose inverse is no number, and that a device takes for 0."""
    rng = np.random.default_rng(0)
    uniforms, logits = rng.random(64, "f4"), 5 * rng.standard_normal((64, 512), "f4")
    logits[:, 7] += 1000  # Far from 0: the difference is what counts.
    logits[::2, 9] += 1001
    for temperature in np.float32([1e-3, 1e-9, 1e-20, 1e-38, 1e-45]):
        drawn = DRAW(uniforms, logits, temperature, *cuts)
        np.testing.assert_array_equal(drawn, logits.argmax(1))
        probs = np.asarray(PROBS(logits, temperature, *cuts))
        np.testing.assert_allclose(probs.sum(1), 1, rtol=1e-6)


def test_frequencies_follow_the_temperature():
    tiled = np.tile(np.log(np.float32([0.6, 0.3, 0.1])), (20000, 1))
    drawn = DRAW(np.random.default_rng(0).random(20000, "f4"), tiled, 0.5)
    expected = np.array([0.36, 0.09, 0.01]) / 0.46
    np.testing.assert_allclose(np.bincount(drawn) / 20000, expected, atol=0.012)


def test_cuts_equal_those_by_sorting():
    """Random rows against numpy, also with hidden ids."""
    logits = np.random.default_rng(0).normal(0, 3, (16, 300)).astype("f4")
    logits[:, ::7] = -np.inf
    order = -np.sort(-logits, axis=1)
    probs = np.exp(order.astype("f8") - order[:, :1])
    before = np.cumsum(probs / probs.sum(1, keepdims=True), 1)
    for k, p in ((1, 0.1), (20, 0.5), (100, 0.95)):
        found = kept(logits, top_k=k)
        np.testing.assert_array_equal(found, logits >= order[:, k - 1 : k])
        lowest = [
            row[np.searchsorted(b, p)] for row, b in zip(order, before, strict=True)
        ]
        found = kept(logits, top_p=p)
        np.testing.assert_array_equal(found, logits >= np.array(lowest)[:, None])


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_the_draw_inverts_the_distribution_function(size):
    rng = np.random.default_rng(size)
    probs = rng.exponential(size=(1, size)).astype("f4") * (rng.random(size) < 0.7)
    probs[:, 0] += 0.1
    ends = np.cumsum(probs[0].astype("f8")) / probs.sum(dtype="f8")
    # The middle of each token's interval, and both ends of the whole.
    middles = (ends + np.append(0, ends[:-1])) / 2
    tokens = np.flatnonzero(probs[0] > 1e-3)
    uniforms = np.append(middles[tokens], [0, 1 - 2**-24]).astype("f4")
    drawn = np.asarray(DRAW_PROBS(uniforms, np.tile(probs, (len(uniforms), 1))))
    np.testing.assert_array_equal(drawn[:-2], tokens)
    assert (probs[0][drawn] > 0).all()


def test_large_draw_is_unbiased():
    """By evenly spread numbers, each token and all before it get their share.

    The count is off by half a number at most: a share that is off by 6e-5 shows.
    """
    logits, draws = np.random.default_rng(1).standard_normal((1, 8192), "f4"), 10_000
    uniforms = ((np.arange(draws) + 0.5) / draws).astype("f4").reshape(-1, 1000)
    # An argument: XLA would spend a minute on folding what depends on a constant.
    one = jax.jit(lambda u, x: sample(u, jnp.tile(x, (1000, 1)), 1.0))
    drawn = np.concatenate([one(u, logits) for u in uniforms])
    counts = np.bincount(drawn, minlength=8192)
    probs = np.exp(np.asarray(logits[0], "f8"))
    expected = draws * np.cumsum(probs / probs.sum())
    assert np.abs(np.cumsum(counts) - expected).max() < 0.6
