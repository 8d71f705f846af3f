"""CogView's sparse attention for long sequences: a window and random pivots.

A block of `window` queries sees the keys of the last `times` blocks up to itself, and
of what lies before those a few pivots: all text, and some of the image's codes. In
training these are drawn anew in each layer, row and step (`random_codes`). Sampling and
scoring use one draw for each layer, always the same (`fixed_codes`): so the model is
one distribution, and the score of an image is the likelihood that it is sampled with.
`three_region_mask` is the oracle. (CogView's release; section 2.4.)

Ours: there are as many pivots in the image whatever the length of the text, so that
both branches of guidance see the same. In the release a shorter text leaves more.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from cogjax.ops.block_attention import Far, attend_blocks
from cogjax.ops.precision import scale_query


class Window(NamedTuple):
    """What a layer sees: the last `times` blocks of `size` positions, and pivots.

    bonus: on the scores of pivots, each of which stands for others.
    """

    size: int
    times: int
    bonus: float

    @classmethod
    def of(cls, size: int, times: int, length: int, num_pivots: int) -> "Window":
        """With so many pivots in the `length` positions of a training sequence."""
        return cls(size, times, math.log(length // num_pivots))

    def first(self, places: Array) -> Array:
        """First position that queries at `places` see as no pivot, of any shape."""
        return (places // self.size - self.times + 1) * self.size


def random_codes(
    key: Array, shape: tuple[int, ...], image_len: int, count: int
) -> Array:
    """So many of an image's codes for each of `shape`: int [*shape, count]."""
    return jax.lax.top_k(jax.random.uniform(key, (*shape, image_len)), count)[1]


def fixed_codes(depth: int, image_len: int, count: int) -> np.ndarray:
    """Those of each layer that sampling and scoring use, ascending: int [l, count]."""
    lots = np.random.default_rng(0).random((depth, image_len))
    return np.sort(np.argsort(lots, axis=1)[:, :count], axis=1)


def place_pivots(codes: Array, is_code: Array, num_text: int) -> Array:
    """Positions of the pivots of sequences: int [..., b, num_text + k].

    Args:
      codes: int [..., b or 1, k], which codes of an image are pivots.
      is_code: bool [b, s], False for text, of which there are at most `num_text`.

    Returns:
      Positions, first those of the text, and s for those that a sequence lacks.
    """
    length = is_code.shape[1]
    start = jnp.argmax(is_code, axis=1)[:, None]
    there = codes < jnp.sum(is_code, axis=1)[:, None]
    of_image = jnp.where(there, start + codes, length)
    is_text = (~is_code).astype(jnp.int32)
    is_text, of_text = jax.lax.top_k(is_text, min(num_text, length))
    of_text = jnp.where(is_text > 0, of_text, length)
    missing = (0, 0), (0, num_text - of_text.shape[1])
    of_text = jnp.pad(of_text, missing, constant_values=length)
    of_text = jnp.broadcast_to(of_text, (*of_image.shape[:-1], num_text))
    return jnp.concatenate([of_text, of_image], axis=-1)


def three_region_attention(
    query: Array,
    key: Array,
    value: Array,
    pivots: Array,
    window: Window,
    alpha: float = 32.0,
) -> Array:
    """PB-Relax attention over a window and pivots, without n x n scores.

    Args:
      query, key, value: [b, s, n, h].
      pivots: int [b, p], positions, s for none.

    Returns:
      [b, s, n, h] in the dtype of `query`.
    """
    length, size = query.shape[1], window.size
    num_blocks = -(-length // size)
    times = min(window.times, num_blocks)
    outside = pivots[:, None] // size <= jnp.arange(num_blocks)[:, None] - times
    far = Far(
        _gather(key, pivots),
        _gather(value, pivots),
        outside[:, None, :, None],
    )
    query = _blocks(scale_query(query, alpha), num_blocks, size)
    near = (_blocks(x, num_blocks, size) for x in (key, value))
    near = (_last_blocks(x, times) for x in near)
    mask = _window_mask(num_blocks, size, times)
    out = attend_blocks(query, *near, mask, far, alpha=alpha, bonus=window.bonus)
    return out.reshape(*out.shape[:2], -1, out.shape[-1]).swapaxes(1, 2)[:, :length]


def _gather(x: Array, pivots: Array) -> Array:
    """[b, s, n, h] at [b, p] -> [b, n, p, h]; of none something finite, unseen."""
    places = jnp.minimum(pivots, x.shape[1] - 1)[:, :, None, None]
    return jnp.take_along_axis(x, places, axis=1).swapaxes(1, 2)


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
