"""CogView's sparse attention for long sequences: a window and random pivots.

A block of `window` queries sees the keys of the last `times` blocks up to itself, and
of what lies before those a few pivots: all text, and image positions drawn anew in each
layer and step. `three_region_mask` is the oracle. (CogView's release; section 2.4.)
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from cogjax.ops.block_attention import Far, attend_blocks
from cogjax.ops.precision import scale_query


def draw_pivots(key: Array, is_text: Array, num_pivots: int) -> Array:
    """All text positions of a row and random others: bool [b, s] -> int [b, p].

    Raises:
      ValueError: there are fewer positions than pivots.
    """
    if not 1 <= num_pivots <= is_text.shape[-1]:
        raise ValueError(
            f"num_pivots is {num_pivots}, expected from 1 to the sequence's "
            f"{is_text.shape[-1]} positions"
        )
    lot = jax.random.uniform(key, is_text.shape)
    return jax.lax.top_k(lot + is_text, num_pivots)[1]


def three_region_attention(
    query: Array,
    key: Array,
    value: Array,
    pivots: Array,
    *,
    window: int,
    times: int,
    alpha: float = 32.0,
) -> Array:
    """PB-Relax attention over a window and pivots, without n x n scores.

    Args:
      query, key, value: [b, s, n, h].
      pivots: int [b, p], positions. Each stands for `s // p`: that factor is on its
        weight.
      window: positions of a block; times: blocks of keys that a block sees.

    Returns:
      [b, s, n, h] in the dtype of `query`.
    """
    length, num_blocks = query.shape[1], -(-query.shape[1] // window)
    times = min(times, num_blocks)
    outside = pivots[:, None] // window <= jnp.arange(num_blocks)[:, None] - times
    far = Far(
        _gather(key, pivots),
        _gather(value, pivots),
        outside[:, None, :, None],
    )
    query = _blocks(scale_query(query, alpha), num_blocks, window)
    near = (_blocks(x, num_blocks, window) for x in (key, value))
    near = (_last_blocks(x, times) for x in near)
    mask = _window_mask(num_blocks, window, times)
    bonus = math.log(length // pivots.shape[1])
    out = attend_blocks(query, *near, mask, far, alpha=alpha, bonus=bonus)
    return out.reshape(*out.shape[:2], -1, out.shape[-1]).swapaxes(1, 2)[:, :length]


def _gather(x: Array, pivots: Array) -> Array:
    """[b, s, n, h] at [b, p] -> [b, n, p, h]."""
    return jnp.take_along_axis(x, pivots[:, :, None, None], axis=1).swapaxes(1, 2)


def _blocks(x: Array, num_blocks: int, window: int) -> Array:
    """[b, s, n, h] -> [b, n, g, u, h]; the last is filled up where nobody looks."""
    fill = num_blocks * window - x.shape[1]
    x = jnp.pad(x, ((0, 0), (0, fill), (0, 0), (0, 0))).swapaxes(1, 2)
    return x.reshape(*x.shape[:2], num_blocks, window, x.shape[-1])


def _last_blocks(x: Array, times: int) -> Array:
    """Each block behind the `times - 1` before it: [b,n,g,u,h] -> [b,n,g,times u,h]."""
    num_blocks = x.shape[2]
    x = jnp.pad(x, ((0, 0), (0, 0), (times - 1, 0), (0, 0), (0, 0)))
    return jnp.concatenate([x[:, :, i : i + num_blocks] for i in range(times)], axis=3)


def _window_mask(num_blocks: int, window: int, times: int) -> Array:
    """bool [g, u, times u] of `_last_blocks`."""
    before = (times - 1) * window
    causal = np.tri(window, before + window, before, dtype=bool)
    first = (np.arange(num_blocks)[:, None] + 1 - times) * window
    there = first + np.arange(before + window) >= 0
    return jnp.asarray(causal) & jnp.asarray(there)[:, None]
