"""A small network that knows what an icon shows, without its colours.

    ([conv 3x3 stride 2, norm, relu], ResBlock) * 4, relu, dense, to unit length

It is for `evaluate/judges/icons.py`; the first two levels have no ResBlock.
"""

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from cogjax.nn.conv import Conv, ResBlock

SIDE = 64  # pixels
FEATURES = 192
_WIDTHS = (24, 48, 96, 160)
_INNER = (0, 0, 64, 128)
_GROUP = 8  # channels that are normalised together


class IconNet(nn.Module):
    """Darkness in [0, 1] [b, 64, 64] -> unit vectors float32 [b, FEATURES]."""

    @nn.compact
    def __call__(self, x_byx: Array) -> Array:
        x = x_byx[..., None] * 2 - 1
        for level, (width, inner) in enumerate(zip(_WIDTHS, _INNER, strict=True)):
            x = Conv(width, (3, 3), (2, 2), name=f"conv_{level}")(x)
            x = nn.GroupNorm(None, group_size=_GROUP, name=f"norm_{level}")(x)
            x = nn.relu(x)
            if inner:
                x = ResBlock(inner, name=f"res_{level}")(x)
        x = nn.relu(x).reshape(len(x), -1)  # [b, 4 * 4 * width]
        x = nn.Dense(FEATURES, name="out")(x)
        return x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), 1e-6)
