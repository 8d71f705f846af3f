"""Sequences of an `ImageLM` whose layers see a window and pivots.

A block of the window is counted from the first real token of a sequence. Where padding
comes first, as before a prompt that is to be continued, tokens are moved to the start
and what comes out is moved back: padding is then behind, where causal layers see none.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from cogjax.models.image_lm_config import ImageLMConfig
from cogjax.ops.cache import Cache, keep_prefix
from cogjax.ops.pivot_attention import fixed_codes, place_pivots


class Windowed(NamedTuple):
    """ids, positions: int [b, t]. pivots: int [l, b, p], t for none. lengths: int [b],
    of the real tokens, which come first; None where none is known to be padding."""

    ids: Array
    positions: Array
    pivots: Array
    lengths: Array | None

    def back(self, x: Array) -> Array:
        """States [b, t, d] where their tokens were."""
        if self.lengths is None:
            return x
        return _moved(x, self.lengths - x.shape[1])

    def caches(self, caches: list[Cache]) -> list[Cache]:
        """Caches that are told which positions of these prefixes to hold."""
        num_rows, length = self.ids.shape
        lengths = jnp.full(num_rows, length) if self.lengths is None else self.lengths
        each = zip(caches, self.pivots, strict=True)
        return [keep_prefix(cache, own, lengths, length) for cache, own in each]


def windowed(
    config: ImageLMConfig,
    ids: Array,
    positions: Array,
    visible: Array | None,
    codes: Array | None,
) -> Windowed:
    """Sequences with their padding behind, and the pivots of each layer.

    Args:
      ids, positions, visible: as of `ImageLM`; padding, if there is, comes first.
      codes: int [l, b, k], which codes of each image are pivots; None are the fixed.
    """
    lengths = None
    if visible is not None:
        padding = visible.shape[1] - jnp.sum(visible, axis=1)
        lengths = ids.shape[1] - padding
        positions = jnp.broadcast_to(positions, ids.shape)
        ids, positions = (_moved(x, padding) for x in (ids, positions))
    if codes is None:
        sizes = config.depth, config.image_len, config.image_pivots
        codes = jnp.asarray(fixed_codes(*sizes))[:, None]
    pivots = place_pivots(codes, ids < config.num_codes, config.num_others)
    return Windowed(ids, positions, pivots, lengths)


def _moved(x: Array, by: Array) -> Array:
    """Rows [b, t, ...] that begin at `by`, int [b], and go on at their start."""
    return jax.vmap(lambda row, shift: jnp.roll(row, -shift, axis=0))(x, by)
