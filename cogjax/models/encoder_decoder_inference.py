"""Packed weights and caches, with which sampling runs an `EncoderDecoder`."""

from typing import Any

import jax.numpy as jnp

from cogjax.models.encoder_decoder import MATRIX_AXES, LayerCache
from cogjax.models.encoder_decoder_config import EncoderDecoderConfig
from cogjax.models.inference import packed_layers
from cogjax.ops import packed as matmul
from cogjax.ops.cache import empty_cache, text_plan

_TABLES = ("token_embedding", "position_embedding", "head")


def for_inference(params: Any, weights: matmul.WeightFormat = "float32") -> Any:
    """Parameters as sampling reads them fastest: one array a layer, packed.

    The network takes them in place of the trained ones; they have no gradient.
    """
    return {half: _of_half(tree, weights) for half, tree in params.items()}


def _of_half(params: Any, weights: matmul.WeightFormat) -> Any:
    tables = {
        name: matmul.pack(jnp.asarray(params[name]), weights)
        for name in _TABLES
        if name in params
    }
    layers = packed_layers(params["layers"]["layers"], MATRIX_AXES, weights)
    return {**params, **tables, "layers": {"layers": layers}}


def scoring(params: Any, count: int) -> Any:
    """Parameters with which only the first `count` ids are scored."""
    decoder = params["decoder"]
    return {**params, "decoder": {**decoder, "head": decoder["head"][:count]}}


def make_cache(
    config: EncoderDecoderConfig, num_texts: int, batch: int, window: int = 1
) -> list[LayerCache]:
    """Zeroed caches of all layers for the codes of `batch` images of some texts.

    window: most positions a call.
    """
    plan = text_plan(config.image_len, window)
    own = empty_cache(
        plan, num_texts, 1, batch, config.heads, config.head_dim, config.dtype
    )
    # `prefill` has the encoded texts in place of nothing.
    nothing = jnp.zeros((num_texts, config.heads, 0, 0))
    return [LayerCache(own, nothing, nothing)] * config.depth
