"""Self-reranking: the loss of a caption given an image, and of an image given one.

The former is CogView's caption loss, section 3.4: mean cross-entropy a text token,
lower is better, so that scores of captions of different length compare.
"""

import jax
import jax.numpy as jnp
from jax import Array

from cogjax.data.sequences import Prompts
from cogjax.models.image_lm import ImageLM
from cogjax.ops import losses
from cogjax.sampling.tokens.autoregressive import positions_of


def caption_losses(
    model: ImageLM,
    params,
    ids: Array,
    weights: Array,
    positions: Array | None = None,
    *,
    first_id: int,
) -> Array:
    """Mean loss of the weighted tokens of each sequence.

    Args:
      model: the network that reads (`models/image_lm_config.py::image_to_text`).
      params: of `scoring` for the ids from `first_id` on, which compete: image codes
        are excluded, as in CogView.
      ids: int [b, t], image-to-text sequences; weights: [b, t], 1 on the text tokens.
      positions: int [t]; None counts from 0.

    Returns:
      float32 [b], nats a text token.
    """
    inputs, targets = ids[:, :-1], ids[:, 1:]  # [b, t - 1]
    positions = jnp.arange(inputs.shape[1]) if positions is None else positions[:-1]
    positions = jnp.broadcast_to(positions, inputs.shape)
    logits, _ = model.apply({"params": params}, inputs, positions)  # [b, t - 1, v]
    in_range = jnp.clip(targets - first_id, 0, logits.shape[-1] - 1)
    values = losses.token_losses(logits, in_range)  # [b, t - 1]
    weights = weights[:, 1:]
    return jnp.sum(values * weights, 1) / jnp.maximum(jnp.sum(weights, 1), 1)


def code_losses(model: ImageLM, params, prompts: Prompts, codes: Array) -> Array:
    """Loss of each code that follows a prompt: float32 [b, n], nats.

    Args:
      model: the network that generates.
      params: of `scoring` for the codes, so that all of them compete, and nothing else.
      prompts: a row each. codes: int [b, n].
    """
    ids, num_padding, positions, next_position = prompts
    length, count = ids.shape[1], codes.shape[1]
    # The last code is only a target.
    of_codes = positions_of(next_position, jnp.arange(count - 1))  # [b, n - 1]
    logits, _ = model.apply(
        {"params": params},
        (ids, codes[:, :-1]),  # A prompt may be vectors.
        jnp.concatenate([positions, of_codes], axis=1),
        jnp.arange(length) >= num_padding[:, None],
    )
    return losses.token_losses(logits[:, length - 1 :], codes)


compiled_caption_losses = jax.jit(
    caption_losses, static_argnums=0, static_argnames="first_id"
)
compiled_code_losses = jax.jit(code_losses, static_argnums=0)
