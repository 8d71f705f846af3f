"""Pairs of a query and a key that a transformer's layers see."""

import functools

from cogjax.models.image_lm_config import ImageLMConfig
from cogjax.ops.masks import LayerKind
from cogjax.ops.sequence import Sequence


def count_pairs(network: ImageLMConfig, length: int) -> int:
    """Pairs of one sequence of `length` tokens, over all layers."""
    sequence = network.sequence.first(length)
    return sum(_pairs(sequence, kind) for kind in network.layer_kinds)


@functools.lru_cache(maxsize=16)
def _pairs(sequence: Sequence, kind: LayerKind) -> int:
    return int(sequence.mask(kind).sum())
