"""Where a network looks: attention weights of chosen positions, in one pass.

The layers compute what they always do, and beside it the weights of the positions that
are watched, from the same queries and keys (`nn/attention.py::watched_weights`).
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from cogjax.data.sequences import Prompts
from cogjax.models.image_lm import ImageLM, Inputs, Training
from cogjax.sampling.tokens.autoregressive import positions_of


def weights_of_codes(
    model: ImageLM, params: Any, prompts: Prompts, codes: Array, which: Array
) -> Array:
    """Weights with which codes are predicted, over a prompt and the codes.

    A code is predicted where the token before it stands; where all codes are predicted
    together it is at its own place, and sees all others.

    Args:
      prompts: of one row, t positions. codes: int [1, m]. which: int [w], codes.

    Returns:
      float32 [l, n, w, t + m], rows sum to 1. What a layer does not see is 0, as is the
      last code where each sees those before it.
    """
    ids, num_padding, positions, next_position = prompts
    length, count = ids.shape[1], codes.shape[1]
    in_turn = model.config.sequence.segments[-1].causal
    read = count - 1 if in_turn else count
    places = jnp.concatenate(
        [positions, positions_of(next_position, jnp.arange(read))], axis=1
    )
    visible = jnp.arange(length) >= num_padding[:, None]
    inputs, watched = (ids, codes[:, :read]), length + which - in_turn
    found = weights_of_tokens(model, params, inputs, places, watched, visible)
    return jnp.pad(found, ((0, 0), (0, 0), (0, 0), (0, count - read)))


def weights_of_tokens(
    model: ImageLM,
    params: Any,
    ids: Inputs,
    positions: Array,
    watched: Array,
    visible: Array | None = None,
) -> Array:
    """Weights of the positions `watched`, int [w], of one sequence.

    Args:
      ids, positions, visible: of `ImageLM`, [1, t]: the start of a sequence.

    Returns:
      float32 [l, n, w, t], rows sum to 1.
    """
    training = Training(watched=watched)
    _, found = model.apply(
        {"params": params}, ids, positions, visible, training=training
    )
    found = jnp.stack(found) if isinstance(found, list) else found
    return found[:, 0].astype(jnp.float32)


compiled_weights_of_codes = jax.jit(weights_of_codes, static_argnums=0)
compiled_weights_of_tokens = jax.jit(weights_of_tokens, static_argnums=0)
