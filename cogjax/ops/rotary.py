"""Rotary positions of an image: row and column turn queries and keys (LlamaGen).

Su et al. 2021 (arXiv 2104.09864) on a grid: neighbouring channels are pairs, the first
half of a head's pairs turned by the row, the second by the column. Sun et al. 2024
(arXiv 2406.06525), section 3.2, and its release: what stands before the image is not
turned but set to 0, so that all positions see it alike.
"""

import jax.numpy as jnp
from jax import Array

from cogjax.ops.masks import Grid


def grid_rotation(
    positions: Array, num_text: int, grid: Grid, head_dim: int, base: float
) -> Array:
    """Cosine and sine of each pair's angle: int [...] -> float32 [..., h / 2, 2].

    positions: those from `num_text` on are of the codes of an image of `grid`, in
    raster order; both are 0 at the positions before. head_dim: h, a multiple of 4.
    """
    half, (rows, columns) = head_dim // 2, grid
    rates = base ** -(jnp.arange(0, half, 2, dtype=jnp.float32) / half)  # [h / 4]
    code = jnp.clip(positions - num_text, 0, rows * columns - 1)
    places = jnp.stack([code // columns, code % columns], axis=-1)  # [..., 2]
    angles = places[..., None] * rates  # [..., 2, h / 4]
    angles = angles.reshape(*positions.shape, half)
    rotation = jnp.stack([jnp.cos(angles), jnp.sin(angles)], axis=-1)
    return jnp.where((positions >= num_text)[..., None, None], rotation, 0.0)


def rotate(x: Array, rotation: Array) -> Array:
    """x [b, t, n, h] by rotation [b, t, h / 2, 2], in the dtype of x."""
    pairs = x.astype(jnp.float32).reshape(*x.shape[:-1], -1, 2)  # [b, t, n, h / 2, 2]
    cos, sin = rotation[:, :, None, :, 0], rotation[:, :, None, :, 1]
    first, second = pairs[..., 0], pairs[..., 1]
    turned = first * cos - second * sin, second * cos + first * sin
    return jnp.stack(turned, axis=-1).reshape(x.shape).astype(x.dtype)
