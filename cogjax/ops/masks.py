"""Attention masks as boolean arrays: True where a query may look at a key."""

import jax.numpy as jnp
from jax import Array


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
