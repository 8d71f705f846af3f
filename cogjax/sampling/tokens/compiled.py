"""Reading prompts and continuing them, compiled once for all models of a process."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from cogjax.data.sequences import Prompts
from cogjax.models.image_lm import ImageLM
from cogjax.sampling.tokens.autoregressive import (
    Decoding,
    advance,
    compiler_options,
    prefill,
)
from cogjax.sampling.tokens.beam import beam_search


def start(
    network: ImageLM,
    params: Any,
    prompts: Prompts,
    keys: Array,
    forced: np.ndarray,
    **settings,
) -> Decoding:
    """`prefill` of prompts; settings as there."""
    ids, num_padding, positions, following = map(jnp.asarray, prompts)
    return compiled_prefill(
        network,
        params,
        ids,
        num_padding,
        keys,
        jnp.asarray(forced),
        positions=positions,
        following=following,
        **settings,
    )


def go_on(*args, **settings) -> tuple[Decoding, Array]:
    """`advance`, and its tokens as an array of their own: the state is given away."""
    return compiled_advance()(*args, **settings)


compiled_prefill = jax.jit(
    prefill, static_argnums=0, static_argnames=("id_range", "guided", "window")
)


@functools.cache
def compiled_advance():
    """Made when first called: the options depend on the backend, and importing this
    module must not start one.
    """

    def run(model, params, state, until, **settings):
        state = advance(model, params, state, until, **settings)
        return state, state.tokens

    return jax.jit(
        run,
        static_argnums=0,
        static_argnames=("id_range", "stop"),
        donate_argnums=2,
        compiler_options=compiler_options(),
    )


compiled_beams = jax.jit(
    beam_search,
    static_argnums=0,
    static_argnames=("beams", "id_range", "stop", "wanted"),
)
