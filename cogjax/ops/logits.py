"""Turning next-token logits into samples: guidance, temperature, top-k, top-p."""

import jax
import jax.numpy as jnp
from jax import Array


def guide(conditional: Array, unconditional: Array, scale: float | Array) -> Array:
    """Classifier-free guidance `u + scale * (c - u)` on logits [..., v]."""
    return unconditional + scale * (conditional - unconditional)


def keep_top_k(logits: Array, k: int) -> Array:
    """Sets all but the `k` largest of [..., v] to -inf; ties with the k-th stay."""
    if not 0 < k < logits.shape[-1]:
        return logits
    threshold = jax.lax.top_k(logits, k)[0][..., -1:]
    return jnp.where(logits < threshold, -jnp.inf, logits)


def keep_top_p(logits: Array, p: float | Array) -> Array:
    """Keeps the smallest set of tokens whose probability reaches `p`, row by row.

    Each row of [..., v] is cut on its own, so the result is right for every batch
    size (CogView's release flattens the batch). The most probable token always stays.
    """
    ordered = jnp.sort(logits, axis=-1)[..., ::-1]
    probs = jax.nn.softmax(ordered, axis=-1)
    before = jnp.cumsum(probs, axis=-1) - probs
    threshold = jnp.min(jnp.where(before < p, ordered, jnp.inf), axis=-1, keepdims=True)
    return jnp.where(logits < threshold, -jnp.inf, logits)


def sample(
    keys: Array, logits: Array, *, temperature: float | Array, top_k: int, top_p: float
) -> Array:
    """Draws one token for each row, each from its own key.

    The order is CogView's: temperature, top-k, top-p. One key per row makes the draw
    of a row independent of the rest of the batch.

    Args:
      keys: typed PRNG keys [b]; logits: [b, v].
      temperature: > 0; top_k: static, 0 keeps all; top_p: static, 1 keeps all.

    Returns:
      int32 [b].
    """
    logits = logits.astype(jnp.float32) / temperature
    logits = keep_top_k(logits, top_k)
    if top_p < 1:
        logits = keep_top_p(logits, top_p)
    return jax.vmap(jax.random.categorical)(keys, logits).astype(jnp.int32)
