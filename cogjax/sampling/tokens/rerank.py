"""Self-reranking: the loss of a caption given a picture, and of a picture given one.

The former is CogView's caption loss, section 3.4: mean cross-entropy a text token,
lower is better, so that scores of captions of different length compare.
"""

import jax.numpy as jnp
from jax import Array

from cogjax.models.image_lm import ImageLM
from cogjax.models.inference import scoring
from cogjax.ops import losses


def caption_losses(
    model: ImageLM,
    params,
    ids: Array,
    weights: Array,
    positions: Array | None = None,
    *,
    id_range: tuple[int, int],
) -> Array:
    """Mean loss of the weighted tokens of each sequence.

    Args:
      model: the network that reads (`models/image_lm_config.py::image_to_text`).
      ids: int [b, t], image-to-text sequences; weights: [b, t], 1 on the text tokens.
      positions: int [t]; None counts from 0.
      id_range: static (start, stop) of the ids that compete: image codes are excluded,
        as in CogView.

    Returns:
      float32 [b], nats a text token.
    """
    inputs, targets = ids[:, :-1], ids[:, 1:]
    positions = jnp.arange(inputs.shape[1]) if positions is None else positions[:-1]
    positions = jnp.broadcast_to(positions, inputs.shape)
    logits, _ = model.apply({"params": scoring(params, id_range)}, inputs, positions)
    in_range = jnp.clip(targets - id_range[0], 0, id_range[1] - id_range[0] - 1)
    values = losses.token_losses(logits, in_range)
    weights = weights[:, 1:]
    return jnp.sum(values * weights, 1) / jnp.maximum(jnp.sum(weights, 1), 1)


def image_losses(
    model: ImageLM,
    params,
    ids: Array,
    num_padding: Array,
    positions: Array,
    following: Array,
    codes: Array,
) -> Array:
    """Mean loss of the codes that follow each prompt: float32 [b], nats a code.

    Args:
      model: the network that draws.
      ids, num_padding, positions, following: of `Prompts`, a row each.
      codes: int [b, n]; all codes of the vocabulary compete, and nothing else.
    """
    length, count = ids.shape[1], codes.shape[1]
    places = following[:, None] + jnp.arange(count - 1)
    inputs = jnp.concatenate([ids, codes[:, :-1]], axis=1)
    logits, _ = model.apply(
        {"params": params},
        inputs,
        jnp.concatenate([positions, places], axis=1),
        jnp.arange(length) >= num_padding[:, None],
    )
    return jnp.mean(losses.token_losses(logits[:, length - 1 :], codes), axis=1)
