"""Images from the last layer's states of their codes: ERNIE-ViLG section 3.2.

Codes are sampled one by one; then one pass over all of them gives the states that each
was sampled from, as training saw them, and the reconstructor decodes the image. With
guidance the states are those with the text.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from cogjax.data.sequences import Prompts
from cogjax.models.image_lm import ImageLM
from cogjax.models.reconstructor import Reconstructor
from cogjax.sampling.tokens.autoregressive import positions_of


def image_states(
    model: ImageLM,
    params: Any,
    prompts: Prompts,
    codes: Array,
    *,
    at_codes: bool = False,
) -> Array:
    """States of the last layer of codes int [b, n]: [b, n, d].

    Those that predict the codes, equal to those of their sampling, or those `at_codes`,
    that have read them. prompts: an image each, whose codes come last.
    """
    prompt, num_padding, positions, next_position = prompts
    num_text = prompt.shape[1]
    codes = codes if at_codes else codes[:, :-1]
    after = positions_of(next_position, jnp.arange(codes.shape[1]))
    first = num_text if at_codes else num_text - 1
    (states,), _ = model.apply(
        {"params": params},
        jnp.concatenate([prompt, codes], axis=1),
        jnp.concatenate([positions, after], axis=1),
        visible=jnp.arange(num_text) >= num_padding[:, None],
        parts=((slice(first, None), None),),
    )
    return states


def reconstruct(
    model: ImageLM,
    params: Any,
    reconstructor: Reconstructor,
    reconstructor_params: Any,
    prompts: Prompts,
    codes: Array,
) -> Array:
    """As `image_states`, decoded: pixels uint8 [b, y, x, 3]."""
    at_codes = reconstructor.config.settings.states == "at"
    states = image_states(model, params, prompts, codes, at_codes=at_codes)
    _, maps = reconstructor.apply({"params": reconstructor_params}, states)
    pixels = jnp.clip(reconstructor.pixels(maps), 0, 1)
    return jnp.round(pixels * 255).astype(jnp.uint8)


compiled_reconstruct = jax.jit(reconstruct, static_argnums=(0, 2))
