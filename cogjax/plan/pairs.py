"""Pairs of a query and a key that a transformer's layers see."""

import functools

from cogjax.models.image_lm import ImageLMConfig
from cogjax.ops.masks import Pattern, image_to_text_mask, text_to_image_mask


def count_pairs(network: ImageLMConfig, length: int) -> int:
    """Pairs of one sequence of `length` tokens, over all layers."""
    form = network.num_text, length, network.text_causal, network.image_first
    patterns = network.patterns or (None,) * network.depth
    return sum(_pairs(pattern, *form) for pattern in patterns)


@functools.lru_cache(maxsize=16)
def _pairs(
    pattern: Pattern | None,
    num_text: int,
    length: int,
    text_causal: bool,
    image_first: bool,
) -> int:
    if pattern is None:
        return length * (length + 1) // 2
    if image_first:
        mask = image_to_text_mask(pattern, num_text)
    else:
        mask = text_to_image_mask(pattern, num_text, text_causal=text_causal)
    return int(mask[:length, :length].sum())
