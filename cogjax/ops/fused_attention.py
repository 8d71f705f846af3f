"""Attention in one kernel where the hardware has one; nothing of size n x n is stored.

TPU: splash attention of JAX's Pallas library, which skips blocks that a mask empties.
GPU: cuDNN through `jax.nn.dot_product_attention`, full and causal kinds in 16 bit.
Both keep scores in float32 on the chip, so PB-Relax has nothing to relax there.
"""

import functools
from dataclasses import replace
from math import prod
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from cogjax.ops.masks import LayerKind
from cogjax.ops.platform import platform
from cogjax.ops.precision import scale_query
from cogjax.ops.sequence import Sequence

# The one that is asked for computes attention, or an error says why not. The form
# "dense" of `nn/attention.py` is the exception, such as a prompt with padding: XLA
# computes it below `SPARSE_BLOCK` positions whatever is asked, and at any length where
# "cudnn" is.
Implementation = Literal["auto", "xla", "splash", "cudnn"]
IMPLEMENTATIONS = ("auto", "xla", "splash", "cudnn")
# Multiples of a TPU's 128 lanes. Causal masks take the largest that pads least; where
# a mask is mostly empty, smaller blocks leave more of them out.
CAUSAL_BLOCKS = (640, 512, 384, 256, 128)
SPARSE_BLOCK = 256


def choose(
    implementation: Implementation,
    dtype: jnp.dtype,
    *,
    causal: bool,
) -> Literal["xla", "splash", "cudnn"]:
    """The implementation behind "auto" for this platform (docs/performance.md).

    causal: whether each position sees all before it, and none is hidden.

    Raises:
      ValueError: the one asked for does not run there, or not in this form.
    """
    here, half = platform(), jnp.dtype(dtype).itemsize == 2
    if implementation == "auto":
        if here == "tpu":
            return "splash"
        return "cudnn" if here == "gpu" and half and causal else "xla"
    if implementation not in IMPLEMENTATIONS:
        raise ValueError(
            f"implementation is {implementation!r}, expected one of {IMPLEMENTATIONS}"
        )
    needs = {"splash": "tpu", "cudnn": "gpu"}.get(implementation, here)
    if needs != here:
        raise ValueError(
            f"implementation {implementation!r} runs on a {needs}, this is a {here}: "
            "choose 'auto' or 'xla'"
        )
    if implementation == "cudnn" and not (causal and half):
        raise ValueError(
            "implementation 'cudnn' is for full attention in bfloat16 or float16: "
            "choose 'auto' or 'xla'"
        )
    return implementation


def cudnn_causal(query: Array, key: Array, value: Array) -> Array:
    """Causal attention by cuDNN: [b, t, n, h], bfloat16 or float16."""
    return jax.nn.dot_product_attention(
        query, key, value, is_causal=True, implementation="cudnn"
    )


def splash_causal(
    query: Array, key: Array, value: Array, *, interpret: bool = False
) -> Array:
    """Causal attention by splash: [b, t, n, h]; `interpret` runs it off a TPU."""
    from jax.experimental.pallas.ops.tpu.splash_attention import CausalMask

    length = query.shape[1]
    block = _causal_block(length)
    padded = length + -length % block
    mask = CausalMask((padded, padded))
    return _splash(query, key, value, None, mask, block, interpret)


def splash_masked(
    query: Array,
    key: Array,
    value: Array,
    visible: Array | None = None,
    *,
    sequence: Sequence,
    kind: LayerKind,
    interpret: bool = False,
) -> Array:
    """Attention of [b, s, n, h] by splash, as `sequence.mask(kind)` says.

    Args:
      visible: bool [b, s], False for what no visible position sees; None hides nothing.
        What is hidden sees what else is hidden, and its rows mean nothing.

    The last positions of an image may be missing.
    """
    from jax.experimental.pallas.ops.tpu.splash_attention import NumpyMask

    length, whole = query.shape[1], _whole(sequence)

    def ordered(x):  # [b, whole, ...]
        around = ((0, 0), (0, whole.length - length)) + ((0, 0),) * (x.ndim - 2)
        return _in_order(jnp.pad(x, around), whole, kind, True)

    arrays = [ordered(x) for x in (query, key, value)]
    segments = None if visible is None else ordered(visible.astype(jnp.int32))
    mask = NumpyMask(_mask(whole, kind))
    out = _splash(*arrays, segments, mask, SPARSE_BLOCK, interpret)
    return _in_order(out, whole, kind, False)[:, :length]


def visited_share(sequence: Sequence, kind: LayerKind) -> float:
    """Share of the blocks of scores that splash computes, without hidden text."""
    if kind.name == "full" and sequence.is_causal:
        blocks = -(-sequence.length // _causal_block(sequence.length))
        return (blocks + 1) / (2 * blocks)
    mask = _mask(_whole(sequence), kind)
    blocks = len(mask) // SPARSE_BLOCK
    mask = mask.reshape(blocks, SPARSE_BLOCK, blocks, SPARSE_BLOCK)
    return float(mask.any(axis=(1, 3)).mean())


def _causal_block(length: int) -> int:
    return min(CAUSAL_BLOCKS, key=lambda size: (-length % size, -size))


def _whole(sequence: Sequence) -> Sequence:
    """The sequence with all positions of its image."""
    segments = (
        segment if segment.grid is None else replace(segment, length=prod(segment.grid))
        for segment in sequence.segments
    )
    return Sequence(tuple(segments))


@functools.lru_cache(maxsize=32)
def _mask(sequence: Sequence, kind: LayerKind) -> np.ndarray:
    """The oracle's mask in the kernel's order, padded to its blocks: bool [p, p]."""
    mask = sequence.mask(kind)
    length = len(mask)
    for _ in range(2):
        mask = _in_order(mask, sequence, kind, True, axis=0).T
    pad = -length % SPARSE_BLOCK
    mask = np.pad(mask, ((0, pad), (0, pad)))
    # Padding of the blocks sees itself, so that no row of the softmax is empty.
    mask[range(length, len(mask)), range(length, len(mask))] = True
    return mask


def _in_order(x, sequence: Sequence, kind: LayerKind, into: bool, axis: int = 1):
    """The image on an axis of length s by columns if `into`, else by rows again.

    Keys of a column are then neighbours: in raster order they touch all blocks.
    """
    if kind.name != "column":
        return x
    xp = np if isinstance(x, np.ndarray) else jnp
    parts = xp.split(x, sequence.starts[1:], axis)  # one a segment
    for i, segment in enumerate(sequence.segments):
        if segment.grid is None:
            continue
        rows, cols = segment.grid
        grid = (rows, cols) if into else (cols, rows)
        shape = parts[i].shape
        turned = parts[i].reshape(*shape[:axis], *grid, *shape[axis + 1 :])
        parts[i] = turned.swapaxes(axis, axis + 1).reshape(shape)
    return xp.concatenate(parts, axis)


def _splash(query, key, value, segments, mask, block: int, interpret: bool) -> Array:
    """[b, t, n, h] under a mask of the length that t is padded to.

    segments: int32 [b, t], only those of one number see each other; None is one.
    """
    from jax.experimental.pallas.ops.tpu import splash_attention as splash

    names = ("block_q", "block_kv", "block_q_dkv", "block_kv_dkv", "block_q_dq")
    kernel = splash.make_splash_mha(
        splash.MultiHeadMask([mask] * query.shape[2]),
        block_sizes=splash.BlockSizes(**dict.fromkeys((*names, "block_kv_dq"), block)),
        head_shards=1,
        q_seq_shards=1,
        interpret=interpret,
    )
    length = query.shape[1]
    around = ((0, 0), (0, mask.shape[0] - length))
    arrays = (scale_query(query, 1.0), key, value)
    arrays = [jnp.pad(x, (*around, (0, 0), (0, 0))).swapaxes(1, 2) for x in arrays]
    if segments is not None:
        segments = jnp.pad(segments, around)  # [b, padded]
        arrays.append(splash.SegmentIds(segments, segments))
    out = _lean(jax.vmap(kernel))(*arrays)  # [b, n, padded, h]
    return out.swapaxes(1, 2)[:, :length]


def _lean(function):
    """The function; under `jax.checkpoint` its first forward pass keeps nothing.

    The kernel would write its normalisers there too, float32 [b, n, padded, 128].
    """
    lean = jax.custom_vjp(function)
    lean.defvjp(
        functools.partial(jax.vjp, function),
        lambda pull, cotangent: pull(cotangent),
        optimize_remat=True,
    )
    return lean
