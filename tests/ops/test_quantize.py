import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from cogjax.ops import quantize
from cogjax.ops.quantize import CodebookStats
from cogjax.parallel.mesh import MeshConfig, batch_sharding, make_mesh

RNG = np.random.default_rng(0)
VECTORS = RNG.normal(size=(64, 4)).astype(np.float32)
CODEBOOK = RNG.normal(size=(8, 4)).astype(np.float32)
KEY = jax.random.key(0)
LOGITS, GUMBEL = jax.jit(quantize.code_logits), jax.jit(quantize.gumbel_quantize)
UPDATE = jax.jit(quantize.update_stats, static_argnums=3)
FROM_STATS = jax.jit(quantize.codebook_from_stats, static_argnames="epsilon")


# By the definition, in numpy.
NEAREST = np.square(VECTORS[:, None] - CODEBOOK[None]).sum(-1).argmin(1)


def test_the_largest_logit_is_the_nearest_code():
    logits = jax.jit(quantize.code_logits)(VECTORS, CODEBOOK)
    np.testing.assert_array_equal(np.argmax(logits, axis=-1), NEAREST)


@pytest.mark.parametrize("offset, dtype", [(1000, "float32"), (10, "bfloat16")])
def test_the_nearest_code_far_from_0(offset, dtype):
    """Codes and vectors there: the squares of both are large, their distance is not."""
    vectors = jnp.asarray(VECTORS + offset, dtype)
    codebook = np.float32(CODEBOOK + offset)
    exact = np.float64(vectors)[:, None] - np.float64(codebook)
    distances = np.square(exact).sum(-1)
    found = LOGITS(vectors, codebook)
    np.testing.assert_allclose(found, -distances, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(np.argmax(found, -1), distances.argmin(1))


def test_straight_through_passes_the_gradient():
    def loss(z):
        quantized = jnp.asarray(CODEBOOK)[NEAREST]
        return jnp.sum(quantize.straight_through(z, quantized) ** 2)

    grad = jax.jit(jax.grad(loss))(VECTORS)
    np.testing.assert_allclose(grad, 2 * CODEBOOK[NEAREST], rtol=1e-4, atol=1e-5)


def test_gumbel_is_hard_forward_and_soft_backward():
    weights = np.float32(RNG.normal(size=VECTORS.shape))

    @jax.jit
    def run(codebook):
        def loss(codebook):
            logits = quantize.code_logits(VECTORS, codebook)
            found = quantize.gumbel_quantize(logits, codebook, KEY, 1.0)
            return jnp.sum(weights * found[0]), found

        return jax.grad(loss, has_aux=True)(codebook)

    grad, (quantized, ids, kl) = run(CODEBOOK)
    np.testing.assert_allclose(quantized, CODEBOOK[np.asarray(ids)], atol=1e-5)
    logits = -np.square(VECTORS[:, None] - CODEBOOK[None]).sum(-1).astype(np.float64)
    probs = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    expected = np.mean(np.sum(probs * np.log(probs * 8), -1))
    assert float(kl) == pytest.approx(expected, rel=1e-4)
    # A soft mixture moves every code, also those that no vector drew.
    assert (np.abs(grad).sum(1) > 0).all()


def test_a_gumbel_draw_follows_the_logits_at_any_temperature():
    logits = LOGITS(VECTORS, CODEBOOK)
    noise = jax.jit(jax.random.gumbel, static_argnums=1)(KEY, logits.shape)
    drawn = np.argmax(np.asarray(logits) + np.asarray(noise), axis=-1)
    for temperature in (0.5, 2.0):
        _, ids, _ = GUMBEL(logits, CODEBOOK, KEY, temperature)
        np.testing.assert_array_equal(ids, drawn)


def test_ema_update_equals_numpy():
    ids = RNG.integers(0, 8, 64)
    stats = CodebookStats(np.full(8, 2, np.float32), np.ones((8, 4), np.float32))
    got = jax.tree.map(np.asarray, UPDATE(stats, VECTORS, ids, 0.9))
    for code in range(8):
        mine = VECTORS[ids == code]
        assert float(got.counts[code]) == pytest.approx(1.8 + 0.1 * len(mine))
        np.testing.assert_allclose(got.sums[code], 0.9 + 0.1 * mine.sum(0), rtol=1e-4)
    codebook = FROM_STATS(got, epsilon=0.0)
    np.testing.assert_allclose(codebook, got.sums / got.counts[:, None], rtol=1e-5)


def test_statistics_run_over_all_devices():
    mesh = make_mesh(MeshConfig())
    ids = RNG.integers(0, 8, 64)
    stats = CodebookStats(np.zeros(8, np.float32), np.zeros((8, 4), np.float32))
    one = UPDATE(stats, VECTORS, ids, 0.9)
    sharded = jax.device_put((VECTORS, ids), batch_sharding(mesh))
    whole = NamedSharding(mesh, PartitionSpec())
    eight = UPDATE(jax.device_put(stats, whole), *sharded, 0.9)
    assert len(sharded[0].sharding.device_set) == 8
    for a, b in zip(one, eight, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_dead_codes_restart_at_vectors_of_the_batch():
    counts = np.float32([8, 8, 0.1, 0, 8, 8, 8, 8])
    stats = CodebookStats(counts, np.ones((8, 4), np.float32))
    restart = jax.jit(quantize.restart_dead)
    new, dead, fresh = jax.tree.map(np.asarray, restart(stats, VECTORS, KEY, 0.05))
    np.testing.assert_array_equal(np.flatnonzero(dead), [2, 3])
    codebook = np.asarray(FROM_STATS(new, epsilon=0.0))
    for code in (2, 3):
        assert np.abs(VECTORS - fresh[code]).sum(1).min() == 0
        np.testing.assert_allclose(codebook[code], fresh[code], rtol=1e-5)
    alive = [0, 1, 4, 5, 6, 7]
    np.testing.assert_array_equal(new.sums[alive], np.ones((6, 4)))


def test_perplexity():
    perplexity = jax.jit(quantize.perplexity, static_argnums=1)
    assert float(perplexity(np.arange(8), 16)) == pytest.approx(8)
    assert float(perplexity(np.zeros(8, int), 16)) == pytest.approx(1)


def test_normal_draws_have_the_moments_of_the_vectors():
    rng = np.random.default_rng(0)
    # Correlated, and without any spread in the last direction.
    vectors = rng.normal(size=(4000, 2)) @ [[2.0, 1.0, 0.0], [0.0, 0.5, 0.0]] + 3
    normal_like = jax.jit(quantize.normal_like, static_argnums=2)
    drawn = np.asarray(normal_like(vectors, KEY, 20_000))
    assert drawn.shape == (20_000, 3)
    np.testing.assert_allclose(drawn.mean(0), vectors.mean(0), atol=0.05)
    np.testing.assert_allclose(np.cov(drawn.T), np.cov(vectors.T), atol=0.1)


def test_the_nearest_code_of_a_grid_is_found_by_rounding():
    levels = (5, 4, 2)
    vectors = np.random.default_rng(0).normal(size=(200, 3))
    codes, logits = jax.jit(
        lambda x: (quantize.grid_codes(levels), LOGITS(x, quantize.grid_codes(levels)))
    )(np.float32(vectors))
    codes = np.asarray(codes)
    assert codes.shape == (40, 3) and len(np.unique(codes, axis=0)) == 40
    ids = np.argmax(logits, axis=-1)
    half = (np.array(levels) - 1) / 2
    rounded = np.round((np.clip(vectors, -1, 1) + 1) * half) / half - 1
    np.testing.assert_allclose(codes[ids], rounded, atol=1e-6)


def test_best_codes_are_the_first_of_the_largest():
    logits = np.float32([[1, 3, 2, 3], [-5, -7, -5, -6], [0, 0, 0, 1]])
    found = jax.jit(quantize.best_codes)(logits)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, [1, 0, 3])
