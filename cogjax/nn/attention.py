"""Attention of whole sequences: the one place that chooses among the forms in `ops/`.

causal    each position sees all before it: `causal_attention`
sparse    text and an image, blocks of rows: `sparse_attention`
dense     under an n x n mask: short prompts, and whatever has no form of its own

On a TPU splash computes the causal and the sparse form at any length, and the dense one
from `SPARSE_BLOCK` positions on.
"""

from functools import partial
from typing import Literal

import jax.numpy as jnp
from jax import Array

from cogjax.nn.decoder_config import DecoderConfig
from cogjax.ops.attention import (
    attention,
    attention_weights,
    causal_attention,
    of_length,
    without_padding,
)
from cogjax.ops.fused_attention import SPARSE_BLOCK, choose, splash_masked
from cogjax.ops.masks import LayerKind
from cogjax.ops.sequence import Sequence
from cogjax.ops.sparse_attention import has_blocks, sparse_attention
from cogjax.parallel.axes import over_heads


def self_attention(
    query: Array,
    key: Array,
    value: Array,
    config: DecoderConfig,
    sequence: Sequence,
    kind: LayerKind,
    visible: Array | None,
) -> Array:
    """PB-Relax attention as `sequence.mask(kind)` says, by the fastest form.

    Args:
      query, key, value: [b, s, n, h], s the length of the sequence.
      visible: bool [b, v] of the first v positions, False for padding of the text,
        which no other position sees; None is none.

    Returns:
      [b, s, n, h] in the dtype of `query`.

    Raises:
      ValueError: the config's implementation is not for this platform or form.
    """
    form = form_of(sequence, kind, visible is not None)
    kernel = _kernel(config, query, form)
    if kernel == "splash" and form != "causal":
        arrays = [query, key, value]
        if visible is not None:
            shape = (len(query), sequence.length)
            arrays.append(jnp.broadcast_to(of_length(visible, shape[1]), shape))
        attend = partial(splash_masked, sequence=sequence, kind=kind)
        return over_heads(attend)(*arrays)
    if form == "dense":
        mask = without_padding(_mask(sequence, kind), visible)  # [b or 1, s, s]
        return attention(query, key, value, mask, alpha=config.alpha)
    if form == "sparse":
        seen = {"sequence": sequence, "kind": kind, "visible": visible}
        return sparse_attention(query, key, value, **seen, alpha=config.alpha)
    attend = partial(causal_attention, alpha=config.alpha, implementation=kernel)
    attend = over_heads(attend) if kernel == "splash" else attend
    return attend(query, key, value)


def _kernel(config: DecoderConfig, query: Array, form: str) -> str:
    """What computes a form; see `Implementation` for where a config is not heeded."""
    asked = config.implementation
    if form == "dense" and (asked == "cudnn" or query.shape[1] < SPARSE_BLOCK):
        return "xla"
    return choose(asked, query.dtype, causal=form == "causal")


def watched_weights(
    query: Array,
    key: Array,
    config: DecoderConfig,
    sequence: Sequence,
    kind: LayerKind,
    visible: Array | None,
    watched: Array,
) -> Array:
    """The weights with which some positions take part in `self_attention`.

    Args:
      watched: int [w], the positions whose queries are meant. The rest as there.

    Returns:
      [b, n, w, s], rows sum to 1, in the dtype of `query`.
    """
    mask = without_padding(_mask(sequence, kind), visible)[:, watched]
    return attention_weights(query[:, watched], key, mask, alpha=config.alpha)


def form_of(
    sequence: Sequence, kind: LayerKind, padded: bool
) -> Literal["causal", "sparse", "dense"]:
    """The form of attention, whatever computes it."""
    full = kind.name == "full" or sequence.image is None
    if full and not padded and sequence.is_causal:
        return "causal"
    if has_blocks(sequence) and (sequence.starts_with_image or not full):
        return "sparse"
    return "dense"


def _mask(sequence: Sequence, kind: LayerKind) -> Array:
    """`sequence.mask(kind)`; a plain one is computed, instead of stored."""
    if form_of(sequence, kind, False) == "causal":
        return jnp.tri(sequence.length, dtype=bool)
    return sequence.mask(kind)
