"""What a pass of a transformer computes: weights of products, pairs of attention."""

import functools
from collections.abc import Sequence as Several

import numpy as np

from cogjax.models.encoder_decoder_config import EncoderDecoderConfig
from cogjax.models.image_lm_config import ImageLMConfig
from cogjax.ops.fused_attention import visited_share
from cogjax.ops.masks import LayerKind
from cogjax.ops.sequence import Sequence
from cogjax.train.task import Pass


def count_pairs(network: ImageLMConfig | EncoderDecoderConfig, length: int) -> int:
    """Pairs of a query and a key that one sequence sees, over all layers."""
    if isinstance(network, EncoderDecoderConfig):
        # A text sees itself; an image what is before it, and the text.
        text, image = network.text_len, network.image_len
        return network.depth * (text**2 + image * (image + 1) // 2 + image * text)
    if network.window:
        return network.depth * _window_pairs(network, length)
    sequence = network.sequence.first(length)
    return sum(_pairs(sequence, kind) for kind in network.layer_kinds)


@functools.lru_cache(maxsize=16)
def _pairs(sequence: Sequence, kind: LayerKind) -> int:
    return int(sequence.mask(kind).sum())


def count_visited(passes: Several[Pass]) -> float:
    """Share of all blocks of scores that a TPU's kernel computes, over all layers.

    0 where another form computes them: window and pivots, an encoder with a decoder.
    """
    visited = total = 0.0
    for one in passes:
        if isinstance(one.network, EncoderDecoderConfig) or one.network.window:
            continue
        sequence = one.network.sequence.first(one.length)
        for kind in one.network.layer_kinds:
            visited += one.length**2 * visited_share(sequence, kind)
            total += one.length**2
    return visited / total if total else 0.0


def _window_pairs(network: ImageLMConfig, length: int) -> int:
    """Pairs of a layer, text first; with as many image pivots as are on average."""
    places, size = np.arange(length), network.window
    first = np.maximum((places // size - network.window_times + 1) * size, 0)
    text = np.minimum(first, network.num_others)
    share = network.image_pivots / network.image_len
    return int(np.sum(places - first + 1 + text + share * (first - text)))


def count_weights(one: Pass) -> int:
    """Weights that the tokens of a pass are multiplied by, over all layers.

    Those of an MLP that projects captions too, and not those of the head.
    """
    network, width = one.network, one.network.width
    if isinstance(network, EncoderDecoderConfig):
        # Keys and values of a text for the decoder; queries and sums of a code.
        per_layer = layer_weights(network) + 2 * width**2
        return (network.text_len + network.image_len) * network.depth * per_layer
    captions = 0
    if network.caption_dim:
        captions = network.table_positions * (network.caption_dim + width) * width
    return one.length * network.depth * layer_weights(network) + captions


def token_weights(network: ImageLMConfig | EncoderDecoderConfig) -> int:
    """Weights of a layer that one code of an image is multiplied by."""
    looks = isinstance(network, EncoderDecoderConfig)
    return layer_weights(network) + looks * 2 * network.width**2


def layer_weights(network: ImageLMConfig | EncoderDecoderConfig) -> int:
    """Weights of the attention of a layer to its own sequence, and of its MLP."""
    gated = isinstance(network, EncoderDecoderConfig) or network.mlp == "swiglu"
    return 4 * network.width**2 + (3 if gated else 2) * network.width * network.mlp_dim
