"""DALL-E's discrete VAE: an image tokenizer whose encoder gives each code a logit.

    encoder: 7x7 conv, [Block, Block, max-pool 2] * levels, relu, 1x1 conv -> logits
    decoder: codebook vector + bias, [Block, Block, nearest x2] * levels,
             relu, 1x1 conv -> 6              mean and ln scale, `ops.losses`

    Block: id(x) + gain res(x), gain 1 / (levels * blocks)^2, a quarter as wide inside
    res:   of the encoder relu, 3x3, relu, 3x3, relu, 3x3, relu, 1x1
           of the decoder relu, 1x1, relu, 3x3, relu, 3x3, relu, 3x3

The coarsest level, that of the codes, has no max-pool and no x2. DALL-E appendix A.1
and its release, of 53,786,240 and 43,829,766 parameters. The release decodes one-hot
codes by a 1x1 convolution: its kernel is the codebook [k, z] here, which is no part of
the network but counts in the decoder. `DVAEDecoder` keeps that convolution and reads
vectors of any number: the reconstructor of ERNIE-ViLG's ablation.
"""

import math
from dataclasses import dataclass

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from cogjax.config import check_ranges
from cogjax.nn.conv import Conv, Up
from cogjax.nn.layers import weight
from cogjax.ops import losses
from cogjax.ops.image import doubled, max_pool

_START = 128
# The release's start values: normal, of the deviation 1 / sqrt(inputs).
_INIT = nn.initializers.variance_scaling(1.0, "fan_in", "normal")
_ENCODER_SIDES, _DECODER_SIDES = (3, 3, 3, 1), (1, 3, 3, 3)


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
        sizes = ("image_size", "grid", "code_dim", "width", "blocks")
        check_ranges(self, **dict.fromkeys(sizes, (1, 10**6)))
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

    @property
    def gain(self) -> float:
        """Factor of the residual branch of each block."""
        return 1 / (self.levels * self.blocks) ** 2


@dataclass(frozen=True)
class DVAEConfig(DVAEDecoderConfig):
    """Shape of the tokenizer.

    code_dim: channels that the decoder starts with. codebook_size: number of codes.
    """

    code_dim: int = _START
    codebook_size: int = 8192

    def __post_init__(self):
        super().__post_init__()
        check_ranges(self, codebook_size=(1, 10**6))


class DVAEEncoder(nn.Module):
    """Pixels in [0, 1] [b, y, x, 3] -> logits of the codes [b, grid, grid, k]."""

    config: DVAEConfig

    @nn.compact
    def __call__(self, images: Array) -> Array:
        cfg = self.config
        x = losses.shrink_pixels(images)
        x = Conv(cfg.width, (7, 7), kernel_init=_INIT, name="in")(x)
        for level in range(cfg.levels):
            if level:
                x = max_pool(x)
            for i in range(cfg.blocks):
                name, width = f"down_{level}_{i}", cfg.width * 2**level
                x = DVAEBlock(width, cfg.gain, _ENCODER_SIDES, name=name)(x)
        size = cfg.codebook_size
        return Conv(size, (1, 1), kernel_init=_INIT, name="out")(nn.relu(x))


class DVAEDecoder(nn.Module):
    """Vectors [b, grid, grid, code_dim] -> (mean, ln scale) maps [b, y, x, 6]."""

    config: DVAEDecoderConfig

    @nn.compact
    def __call__(self, z_byxc: Array) -> Array:
        x = Conv(_START, (1, 1), kernel_init=_INIT, name="in")(z_byxc)
        return _grow(self.config, x)


class CodeDecoder(nn.Module):
    """The same behind the codebook, whose vectors only lack a bias."""

    config: DVAEConfig

    @nn.compact
    def __call__(self, z_byxc: Array) -> Array:
        shape = (self.config.code_dim,)
        bias = weight(self, "bias", nn.initializers.zeros, shape)
        return _grow(self.config, z_byxc + bias)


def _grow(cfg: DVAEDecoderConfig, x: Array) -> Array:
    """[b, grid, grid, c] -> maps [b, y, x, 6]; called inside a compact module."""
    for level in reversed(range(cfg.levels)):
        width = cfg.width * 2**level
        for i in range(cfg.blocks):
            name, doubles = f"up_{level}_{i}", level < cfg.levels - 1 and i == 0
            x = DVAEBlock(width, cfg.gain, _DECODER_SIDES, doubles, name=name)(x)
    return Conv(6, (1, 1), kernel_init=_INIT, name="out")(nn.relu(x))


class DVAEBlock(nn.Module):
    """Residual block: [b, y, x, c] -> [b, y, x, width]; sides: of its kernels.

    doubles: each pixel of the input stands for 2 x 2. The 1x1 convolutions come first,
    which give the same for all four.
    """

    width: int
    gain: float
    sides: tuple[int, ...]
    doubles: bool = False

    @nn.compact
    def __call__(self, x_byxc: Array) -> Array:
        x = h = x_byxc
        if x.shape[-1] != self.width:
            x = Conv(self.width, (1, 1), kernel_init=_INIT, name="id")(x)
        widths = (self.width // 4,) * 3 + (self.width,)
        for i, (width, side) in enumerate(zip(widths, self.sides, strict=True)):
            h, name = nn.relu(h), f"conv_{i}"
            if self.doubles and i == 1:
                h = Up(width, resize=True, kernel_init=_INIT, name=name)(h)
            else:
                h = Conv(width, (side, side), kernel_init=_INIT, name=name)(h)
        if self.doubles:
            x = doubled(x)
        return x + jnp.asarray(self.gain, h.dtype) * h


class DVAE(nn.Module):
    """Encoder and decoder under one parameter tree."""

    config: DVAEConfig

    def setup(self):
        self.encoder = DVAEEncoder(self.config, name="encoder")
        self.decoder = CodeDecoder(self.config, name="decoder")

    def __call__(self, images: Array) -> Array:
        """Touches every parameter (for `init`): pixels of no code."""
        grid = self.encode(images).shape[:3]
        return self.decode(jnp.zeros((*grid, self.config.code_dim)))

    def encode(self, images: Array) -> Array:
        """Pixels in [0, 1] [b, y, x, 3] -> logits of the codes [b, grid, grid, k]."""
        return self.encoder(images)

    def code_logits(self, z_byxk: Array, codebook: Array) -> Array:
        """What `encode` gives already: the codebook is the decoder's alone."""
        del codebook
        return z_byxk

    def decode_maps(self, z_byxc: Array) -> tuple[Array, Array]:
        """Vectors [b, grid, grid, code_dim] -> (mean, ln scale), each [b, y, x, 3]."""
        maps = self.decoder(z_byxc)
        return maps[..., :3], maps[..., 3:]

    def decode(self, z_byxc: Array) -> Array:
        """Vectors [b, grid, grid, code_dim] -> pixels [b, y, x, 3], not clipped."""
        return losses.from_logit_laplace(self.decode_maps(z_byxc)[0])
