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
from cogjax.ops import losses
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
    mask = _mask(ids, num_padding)
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


def code_losses(
    model: EncoderDecoder, params: Any, prompts: Prompts, codes: Array
) -> Array:
    """Loss of each of codes int [b, n] after a prompt each: float32 [b, n], nats.

    params: of `scoring`, so that all codes compete, and nothing else.
    """
    ids, num_padding = prompts[:2]
    weights, mask = {"params": params}, _mask(ids, num_padding)
    # The last code is only a target.
    logits = model.apply(weights, ids, mask, codes[:, :-1], method="score")
    return losses.token_losses(logits, codes)


compiled_prefill = jax.jit(
    prefill, static_argnums=0, static_argnames=("guided", "window")
)
compiled_code_losses = jax.jit(code_losses, static_argnums=0)


def _mask(ids: Array, num_padding: Array) -> Array:
    """bool [q, t], False for padding."""
    length = ids.shape[1]
    return jnp.arange(length) < (length - num_padding)[:, None]


def _of_groups(cache: LayerCache, groups: np.ndarray) -> LayerCache:
    own = replace(
        cache.own,
        prefix_key=cache.own.prefix_key[groups],
        prefix_value=cache.own.prefix_value[groups],
    )
    return LayerCache(own, cache.key[groups], cache.value[groups])
