"""DALL-E's discrete VAE, the decoder: the reconstructor of ERNIE-ViLG's ablation.

    1x1 conv -> 128
    [Block, Block, nearest x2] * levels      the last level without the x2
    relu, 1x1 conv -> 6                       mean and ln scale, `ops.losses`

    Block: id(x) + gain res(x), gain 1 / (levels * blocks)^2
    res:   relu, 1x1, relu, 3x3, relu, 3x3, relu, 3x3, a quarter as wide inside

DALL-E appendix A.1 and its release, whose decoder has 43,829,766 parameters with width
256 and one-hot codes as inputs. Here vectors of any number are the inputs.
"""

import math
from dataclasses import dataclass

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from cogjax.nn.conv import Conv

_START = 128


@dataclass(frozen=True)
class DVAEDecoderConfig:
    """Shape of the decoder.

    image_size, grid: pixels and vectors a side, their ratio a power of 2. code_dim: of
    a vector. width: channels at full size, twice as many at each half. blocks: a level.
    """

    image_size: int = 256
    grid: int = 32
    code_dim: int = 8192
    width: int = 256
    blocks: int = 2

    def __post_init__(self):
        ratio = self.image_size / self.grid
        if ratio < 1 or not math.log2(ratio).is_integer():
            raise ValueError(
                f"image_size {self.image_size} is no power of 2 times grid {self.grid}"
            )
        if self.width < 4 or self.width % 4:
            raise ValueError(f"width is {self.width}, expected a multiple of 4")

    @property
    def levels(self) -> int:
        """Sizes of images, the coarsest that of the grid."""
        return int(math.log2(self.image_size // self.grid)) + 1


class DVAEDecoder(nn.Module):
    """Vectors [b, grid, grid, code_dim] -> (mean, ln scale) maps [b, y, x, 6]."""

    config: DVAEDecoderConfig

    @nn.compact
    def __call__(self, z_byxc: Array) -> Array:
        cfg = self.config
        gain = 1 / (cfg.levels * cfg.blocks) ** 2
        x = Conv(_START, (1, 1), name="in")(z_byxc)
        for level in reversed(range(cfg.levels)):
            width = cfg.width * 2**level
            for i in range(cfg.blocks):
                x = DVAEBlock(width, gain, name=f"up_{level}_{i}")(x)
            if level:
                shape = (len(x), 2 * x.shape[1], 2 * x.shape[2], width)
                x = jax.image.resize(x, shape, "nearest")
        return Conv(6, (1, 1), name="out")(nn.relu(x))


class DVAEBlock(nn.Module):
    """Residual block of the decoder: [b, y, x, c] -> [b, y, x, width]."""

    width: int
    gain: float

    @nn.compact
    def __call__(self, x_byxc: Array) -> Array:
        x = h = x_byxc
        if x.shape[-1] != self.width:
            x = Conv(self.width, (1, 1), name="id")(x)
        inner = self.width // 4
        for i, (width, side) in enumerate(
            ((inner, 1), (inner, 3), (inner, 3), (self.width, 3))
        ):
            h = Conv(width, (side, side), name=f"conv_{i}")(nn.relu(h))
        return x + jnp.asarray(self.gain, h.dtype) * h
