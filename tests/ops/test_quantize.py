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


def test_nearest_code_equals_brute_force():
    distances = np.square(VECTORS[:, None] - CODEBOOK[None]).sum(-1)
    got = quantize.nearest_code(jnp.asarray(VECTORS), jnp.asarray(CODEBOOK))
    np.testing.assert_array_equal(got, distances.argmin(1))


def test_straight_through_passes_the_gradient():
    def loss(z):
        ids = quantize.nearest_code(z, jnp.asarray(CODEBOOK))
        return jnp.sum(quantize.straight_through(z, jnp.asarray(CODEBOOK)[ids]) ** 2)

    ids = quantize.nearest_code(jnp.asarray(VECTORS), jnp.asarray(CODEBOOK))
    grad = jax.grad(loss)(jnp.asarray(VECTORS))
    np.testing.assert_allclose(
        grad, 2 * CODEBOOK[np.asarray(ids)], rtol=1e-4, atol=1e-5
    )


def test_gumbel_is_hard_forward_and_soft_backward():
    @jax.jit
    def run(codebook):
        logits = quantize.code_logits(jnp.asarray(VECTORS), codebook)
        return quantize.gumbel_quantize(logits, codebook, jax.random.key(0), 1.0)

    quantized, ids, kl = run(jnp.asarray(CODEBOOK))
    np.testing.assert_allclose(quantized, CODEBOOK[np.asarray(ids)], atol=1e-5)
    logits = -np.square(VECTORS[:, None] - CODEBOOK[None]).sum(-1).astype(np.float64)
    probs = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    expected = np.mean(np.sum(probs * np.log(probs * 8), -1))
    assert float(kl) == pytest.approx(expected, rel=1e-4)
    # A soft mixture moves every code, also those that no vector drew.
    weights = jnp.asarray(RNG.normal(size=VECTORS.shape), jnp.float32)
    grad = jax.jit(jax.grad(lambda c: jnp.sum(weights * run(c)[0])))(
        jnp.asarray(CODEBOOK)
    )
    assert (np.abs(grad).sum(1) > 0).all()


def test_a_gumbel_draw_follows_the_logits_at_any_temperature():
    key, codebook = jax.random.key(0), jnp.asarray(CODEBOOK)
    logits = quantize.code_logits(jnp.asarray(VECTORS), codebook)
    drawn = np.argmax(logits + jax.random.gumbel(key, logits.shape), axis=-1)
    for temperature in (0.5, 2.0):
        _, ids, _ = quantize.gumbel_quantize(logits, codebook, key, temperature)
        np.testing.assert_array_equal(ids, drawn)


def test_ema_update_equals_numpy():
    ids = RNG.integers(0, 8, 64)
    stats = CodebookStats(jnp.full(8, 2.0), jnp.ones((8, 4)))
    got = quantize.update_stats(stats, jnp.asarray(VECTORS), jnp.asarray(ids), 0.9)
    for code in range(8):
        mine = VECTORS[ids == code]
        assert float(got.counts[code]) == pytest.approx(1.8 + 0.1 * len(mine))
        np.testing.assert_allclose(got.sums[code], 0.9 + 0.1 * mine.sum(0), rtol=1e-4)
    codebook = quantize.codebook_from_stats(got, epsilon=0.0)
    np.testing.assert_allclose(codebook, got.sums / got.counts[:, None], rtol=1e-5)


def test_statistics_run_over_all_devices():
    mesh = make_mesh(MeshConfig())
    ids = jnp.asarray(RNG.integers(0, 8, 64))
    stats = CodebookStats(jnp.zeros(8), jnp.zeros((8, 4)))
    update = jax.jit(quantize.update_stats, static_argnums=3)
    one = update(stats, jnp.asarray(VECTORS), ids, 0.9)
    sharded = jax.device_put((jnp.asarray(VECTORS), ids), batch_sharding(mesh))
    whole = NamedSharding(mesh, PartitionSpec())
    eight = update(jax.device_put(stats, whole), *sharded, 0.9)
    assert len(sharded[0].sharding.device_set) == 8
    for a, b in zip(one, eight, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_dead_codes_restart_at_vectors_of_the_batch():
    counts = jnp.array([8.0, 8.0, 0.1, 0.0, 8.0, 8.0, 8.0, 8.0])
    stats = CodebookStats(counts, jnp.ones((8, 4)))
    new, dead, fresh = quantize.restart_dead(
        stats, jnp.asarray(VECTORS), jax.random.key(0), 0.05
    )
    np.testing.assert_array_equal(np.flatnonzero(dead), [2, 3])
    codebook = np.asarray(quantize.codebook_from_stats(new, epsilon=0.0))
    for code in (2, 3):
        assert np.abs(VECTORS - np.asarray(fresh[code])).sum(1).min() == 0
        np.testing.assert_allclose(codebook[code], fresh[code], rtol=1e-5)
    alive = [0, 1, 4, 5, 6, 7]
    np.testing.assert_array_equal(new.sums[jnp.array(alive)], np.ones((6, 4)))


def test_perplexity():
    assert float(quantize.perplexity(jnp.arange(8), 16)) == pytest.approx(8)
    assert float(quantize.perplexity(jnp.zeros(8, int), 16)) == pytest.approx(1)


def test_normal_draws_have_the_moments_of_the_vectors():
    rng = np.random.default_rng(0)
    # Correlated, and without any spread in the last direction.
    vectors = rng.normal(size=(4000, 2)) @ [[2.0, 1.0, 0.0], [0.0, 0.5, 0.0]] + 3
    drawn = quantize.normal_like(jnp.asarray(vectors), jax.random.key(0), 20_000)
    assert drawn.shape == (20_000, 3)
    np.testing.assert_allclose(drawn.mean(0), vectors.mean(0), atol=0.05)
    np.testing.assert_allclose(np.cov(drawn.T), np.cov(vectors.T), atol=0.1)
