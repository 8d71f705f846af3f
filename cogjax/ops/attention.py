"""Dense and causal attention, and the masks of decoding, where slots are traced."""

import jax.numpy as jnp
import numpy as np
from jax import Array

from cogjax.ops.kernels import Implementation, choose, cudnn_causal, splash_causal
from cogjax.ops.precision import relaxed_softmax, scale_query


def attention(
    query: Array, key: Array, value: Array, mask: Array, *, alpha: float = 32.0
) -> Array:
    """PB-Relax attention: the scores stay `alpha` times smaller until softmax.

    Args:
      query: [b, t, n, h].
      key, value: [b, s, n, h].
      mask: bool, broadcastable to [b, t, s]; True where a query may look.
      alpha: relaxation constant; 1 is ordinary attention (CogView eq. 3 uses 32).

    Returns:
      [b, t, n, h] in the dtype of `query`.
    """
    scores = jnp.einsum("btnh,bsnh->bnts", scale_query(query, alpha), key)
    scores = hide(scores, mask[:, None])
    probs = relaxed_softmax(scores, alpha)
    return jnp.einsum("bnts,bsnh->btnh", probs, value)


def causal_attention(
    query: Array,
    key: Array,
    value: Array,
    *,
    alpha: float = 32.0,
    chunk: int = 256,
    implementation: Implementation = "auto",
) -> Array:
    """PB-Relax attention of each position to itself and those before it.

    Equals `attention` under a causal mask. In "xla", `chunk` queries at a time see only
    the keys up to the last of them, which leaves out almost half of the scores.

    Args:
      query, key, value: [b, t, n, h].
      implementation: see `ops/kernels.py`.

    Returns:
      [b, t, n, h] in the dtype of `query`.

    Raises:
      ValueError: the implementation is not for this platform or dtype.
    """
    kernel = choose(implementation, query.dtype, sparse=False)
    if kernel == "splash":
        return splash_causal(query, key, value)
    if kernel == "cudnn":
        return cudnn_causal(query, key, value)
    # Heads first, once: the slices are then in the order of the products.
    query, key, value = (x.swapaxes(1, 2) for x in (query, key, value))
    query, length = scale_query(query, alpha), query.shape[2]
    out = []
    for start in range(0, length, chunk):
        stop = min(start + chunk, length)
        part = query[:, :, start:stop]
        scores = jnp.einsum("bnth,bnsh->bnts", part, key[:, :, :stop])
        visible = np.tri(stop - start, stop, start, dtype=bool)
        probs = relaxed_softmax(hide(scores, visible), alpha)
        out.append(jnp.einsum("bnts,bnsh->bnth", probs, value[:, :, :stop]))
    return jnp.concatenate(out, axis=2).swapaxes(1, 2)


def hide(scores: Array, visible: Array) -> Array:
    """Scores, very low where `visible`, bool of a fitting shape, is False."""
    # A quarter of the range: subtracting the row maximum cannot overflow it.
    return jnp.where(visible, scores, jnp.finfo(scores.dtype).min / 4)


def causal_mask(query_slots: Array, key_slots: Array) -> Array:
    """Lets each query see the keys at its own slot and before.

    Args:
      query_slots: int [b, t]; key_slots: int [b, s] or [s]. A slot is the place in
        the sequence (or cache), not the position embedding.

    Returns:
      bool [b, t, s].
    """
    key_slots = jnp.broadcast_to(key_slots, (query_slots.shape[0], key_slots.shape[-1]))
    return key_slots[:, None, :] <= query_slots[:, :, None]


def padded_causal_mask(
    query_slots: Array, key_slots: Array, num_padding: Array
) -> Array:
    """Causal mask that hides the first `num_padding[b]` keys of a row (left padding).

    Args:
      query_slots: int [b, t]; key_slots: int [s], counted from 0; num_padding: int [b].

    Returns:
      bool [b, t, s]. A padding query still sees itself, so no row is empty.
    """
    real = key_slots >= num_padding[:, None]
    own = key_slots == query_slots[:, :, None]
    return causal_mask(query_slots, key_slots) & (real[:, None] | own)
