"""Vector quantisation: nearest codes, straight-through, gumbel, EMA codebooks.

The ways to train a codebook (`tasks/codebook.py`) are
built from these functions. State goes in and comes out.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from cogjax.ops.platform import platform


class CodebookStats(NamedTuple):
    """Running statistics of a codebook, float32.

    counts: [k], moving average of how many vectors of a batch chose each code.
    sums: [k, z], moving average of the sum of those vectors.
    """

    counts: Array
    sums: Array


def squared_distances(vectors: Array, codebook: Array) -> Array:
    """Squared distances of vectors [..., z] to codes [k, z] -> [..., k], float32."""
    # Far from 0 the squares below would be large and their difference rounding.
    centre = jax.lax.stop_gradient(jnp.mean(codebook, 0, dtype=jnp.float32))
    vectors, codebook = vectors - centre, codebook - centre
    inner = jnp.einsum("...z,kz->...k", vectors, codebook, precision="highest")
    return (
        jnp.sum(jnp.square(vectors), -1, keepdims=True)
        - 2 * inner
        + jnp.sum(jnp.square(codebook), -1)
    )


def code_logits(vectors: Array, codebook: Array) -> Array:
    """Minus the squared distances [..., k]: the largest is that of the nearest code."""
    return -squared_distances(vectors, codebook)


def best_codes(logits: Array) -> Array:
    """The first of the largest of [..., k]: int32 [...].

    `jnp.argmax` but for NaN; XLA's CPU backend takes 4 times as long for that.
    """
    if platform() != "cpu":
        return jnp.argmax(logits, axis=-1).astype(jnp.int32)
    k = logits.shape[-1]
    # Computed once: twice, with other rounding, none might equal the largest.
    logits = jax.lax.optimization_barrier(jax.lax.stop_gradient(logits))
    largest = logits == jnp.max(logits, axis=-1, keepdims=True)
    return jnp.min(jnp.where(largest, jnp.arange(k, dtype=jnp.int32), k - 1), axis=-1)


def unit(vectors: Array) -> Array:
    """Vectors [..., z] at length 1; those of length 0 stay."""
    length = jnp.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / jnp.maximum(length, 1e-12)


def straight_through(vectors: Array, quantized: Array) -> Array:
    """Value of `quantized`, gradient passed on to `vectors` unchanged."""
    return vectors + jax.lax.stop_gradient(quantized - vectors)


def grid_codes(levels: Sequence[int]) -> Array:
    """Codes of finite scalar quantisation: a grid in [-1, 1]^z -> [k, z], float32.

    levels: numbers of values of each dimension; k is their product. The nearest code
    of a vector is found one dimension at a time, as rounding does (Mentzer et al. 2023,
    section 3.1), without its tanh: training pulls vectors into the grid instead.
    """
    axes = [jnp.linspace(-1.0, 1.0, level) for level in levels]
    grid = jnp.meshgrid(*axes, indexing="ij")
    return jnp.stack([axis.reshape(-1) for axis in grid], axis=-1)


def gumbel_quantize(
    logits: Array, codebook: Array, key: Array, temperature: float | Array
) -> tuple[Array, Array, Array]:
    """Gumbel-softmax draw of a code, hard forward and soft backward.

    Args:
      logits: [..., k], as of `code_logits`; codebook: [k, z].

    Returns:
      (quantized [..., z], drawn ids int32 [...], KL to the uniform prior, scalar
      mean over positions in nats).
    """
    soft = gumbel_softmax(logits, key, temperature)
    ids = jnp.argmax(soft, axis=-1)
    hard = jax.nn.one_hot(ids, codebook.shape[0], dtype=soft.dtype)
    weights = straight_through(soft, hard)
    return weights @ codebook, ids.astype(jnp.int32), kl_to_uniform(logits)


def gumbel_softmax(logits: Array, key: Array, temperature: float | Array) -> Array:
    """A relaxed draw of a code, [..., k]: softmax of (logits + noise) / temperature."""
    noise = jax.random.gumbel(key, logits.shape, logits.dtype)
    return jax.nn.softmax((logits + noise) / temperature, axis=-1)


def kl_to_uniform(logits: Array) -> Array:
    """KL of softmax(logits [..., k]) to the even prior: mean over positions, nats."""
    log_probs = jax.nn.log_softmax(logits, axis=-1)
    entropy = -jnp.sum(jnp.exp(log_probs) * log_probs, axis=-1)
    return jnp.log(logits.shape[-1]) - jnp.mean(entropy)


def update_stats(
    stats: CodebookStats, vectors: Array, ids: Array, decay: float
) -> CodebookStats:
    """Moves the statistics towards those of one batch.

    Under `jax.jit` with a sharded batch the sums run over the global batch: XLA adds
    the all-reduce that CogView's release has commented out.

    Args:
      vectors: [m, z], ids: int [m], decay in [0, 1).
    """
    codebook_size = stats.counts.shape[0]
    chosen = jax.nn.one_hot(ids, codebook_size, dtype=jnp.float32)
    counts = jnp.sum(chosen, axis=0)
    sums = jnp.einsum("mk,mz->kz", chosen, vectors.astype(jnp.float32))
    return CodebookStats(
        decay * stats.counts + (1 - decay) * counts,
        decay * stats.sums + (1 - decay) * sums,
    )


def codebook_from_stats(stats: CodebookStats, epsilon: float = 1e-5) -> Array:
    """Mean vector of each code, [k, z], with Laplace-smoothed counts (VQ-VAE A.1)."""
    total = jnp.sum(stats.counts)
    codebook_size = stats.counts.shape[0]
    smoothed = (stats.counts + epsilon) / (total + codebook_size * epsilon) * total
    return stats.sums / smoothed[:, None]


def restart_dead(
    stats: CodebookStats, vectors: Array, key: Array, threshold: float
) -> tuple[CodebookStats, Array, Array]:
    """Gives codes that hardly any vector chooses a new start at random vectors.

    A code is dead when its running count is below `threshold` times the count that
    even use would give. All-zero statistics are all dead, which makes the first call
    the data-dependent initialisation.

    Args:
      vectors: [m, z] of the current batch.

    Returns:
      (new statistics, bool [k] which codes were restarted, their new values [k, z]).
    """
    codebook_size = stats.counts.shape[0]
    num_vectors = vectors.shape[0]
    even = num_vectors / codebook_size
    dead = stats.counts < threshold * even
    picks = jax.random.randint(key, (codebook_size,), 0, num_vectors)
    fresh = vectors[picks].astype(jnp.float32)
    # Twice the threshold: a restart that attracts nothing is tried again soon.
    start = 2 * threshold * even
    counts = jnp.where(dead, start, stats.counts)
    sums = jnp.where(dead[:, None], fresh * start, stats.sums)
    return CodebookStats(counts, sums), dead, fresh


def perplexity(ids: Array, codebook_size: int) -> Array:
    """exp of the entropy of the code histogram of int ids [...]: 1 .. codebook_size."""
    counts = jnp.bincount(ids.reshape(-1), length=codebook_size)
    probs = counts / jnp.maximum(jnp.sum(counts), 1)
    return jnp.exp(-jnp.sum(jnp.where(probs > 0, probs * jnp.log(probs), 0.0)))


def normal_like(vectors: Array, key: Array, count: int) -> Array:
    """Normal draws with mean and covariance of vectors [m, z]: [count, z]."""
    mean = jnp.mean(vectors, axis=0)
    centred = vectors - mean
    covariance = centred.T @ centred / len(vectors)
    # Directions without spread would have no root.
    root = jnp.linalg.cholesky(covariance + 1e-6 * jnp.eye(len(covariance)))
    return mean + jax.random.normal(key, (count, len(mean))) @ root.T
