"""The start of sampling codes from an encoder and a decoder.

The text is encoded once, and each layer of the decoder keeps its keys and values of it;
from there on the codes are sampled as those of any network (`autoregressive.py`).
"""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from cogjax.data.sequences import Prompts
from cogjax.models.encoder_decoder import EncoderDecoder, LayerCache
from cogjax.models.encoder_decoder_inference import make_cache
from cogjax.sampling.tokens.autoregressive import DecodeState, shared, start_state


def prefill(
    model: EncoderDecoder,
    params: Any,
    prompts: Prompts,
    keys: Array,
    forced: Array,
    *,
    guided: int = 0,
    window: int = 1,
) -> DecodeState:
    """Reads each prompt once, whatever number of sequences continues it.

    Arguments, errors and the state are those of `autoregressive.prefill`, but that the
    padding of the prompts is behind them: `num_padding` [q] of the last ids.
    """
    ids, num_padding = prompts[:2]
    groups, of_row = shared(len(ids), len(keys), guided)
    mask = jnp.arange(ids.shape[1]) < (ids.shape[1] - num_padding)[:, None]  # [q, t]
    cache = make_cache(model.config, len(ids), len(of_row), window)
    weights = {"params": params}
    logits, cache = model.apply(weights, ids, mask, cache, method="prefill")
    return start_state(
        keys,
        forced,
        logits=logits[of_row],
        # The first code is behind the start.
        first_position=jnp.ones(len(of_row), jnp.int32),
        visible=mask[groups],
        cache=[_of_groups(layer, groups) for layer in cache],
    )


compiled_prefill = jax.jit(
    prefill, static_argnums=0, static_argnames=("guided", "window")
)


def _of_groups(cache: LayerCache, groups: np.ndarray) -> LayerCache:
    own = replace(
        cache.own,
        prefix_key=cache.own.prefix_key[groups],
        prefix_value=cache.own.prefix_value[groups],
    )
    return LayerCache(own, cache.key[groups], cache.value[groups])
