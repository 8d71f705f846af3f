"""CogView's image tokenizer: a convolutional encoder and decoder around a codebook.

    encoder: [Down, relu] * strides, ResBlock * res_blocks, 1x1 conv -> code_dim
    decoder: 3x3 conv + ResBlock * res_blocks (only if res_blocks),
             [Up, relu] * strides, 1x1 conv -> 3

With `res_blocks = 0` and no `resize` this is the released network (19,034,883
parameters, all widths 512, CogView section 2.2). Both are ours, for the small presets.
The codebook [k, z] is not part of the network: how it is trained differs by method
(`tasks/tokenizer.py`), and a trained tokenizer is a network and one array.
"""

import math
from dataclasses import dataclass, field

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from cogjax.config import check_ranges
from cogjax.nn.conv import Conv, Down, ResBlock, Up
from cogjax.ops.quantize import code_logits


@dataclass(frozen=True)
class VQVAEConfig:
    """Shape of the tokenizer.

    image_size: pixels a side. strides: down-sampling of each level; their product is
    the side of the square that one code stands for. widths: channels of each level,
    finest first. code_dim: channels of a code. codebook_size: number of codes.
    res_blocks: residual blocks of encoder and decoder. res_width: their inner channels.
    pixel_mean, pixel_std: per-channel normalisation of pixels in [0, 1].
    resize: the decoder repeats pixels and convolves instead of transposed convolutions,
    and its last convolution is 3x3: flat colours stay flat.
    """

    image_size: int = 256
    widths: tuple[int, ...] = (512, 512, 512)
    code_dim: int = 256
    codebook_size: int = 8192
    strides: tuple[int, ...] = (2, 2, 2)
    res_blocks: int = 0
    res_width: int = 128
    pixel_mean: tuple[float, ...] = (0.79093, 0.76271, 0.75340)
    pixel_std: tuple[float, ...] = (0.30379, 0.32279, 0.32800)
    resize: bool = field(default=False, metadata={"new": True})

    def __post_init__(self):
        check_ranges(
            self,
            image_size=(1, 2**14),
            widths=(1, 2**16),
            strides=(1, 64),
            res_blocks=(0, 256),
            res_width=(1, 2**16),
            code_dim=(1, 2**16),
            codebook_size=(1, 2**24),
            pixel_mean=(-100, 100),
            pixel_std=(1e-6, 100),
        )
        if not 0 < len(self.widths) == len(self.strides) <= 16:
            raise ValueError(f"widths {self.widths} and strides {self.strides} differ")
        if not len(self.pixel_mean) == len(self.pixel_std) == 3:
            raise ValueError("pixel_mean and pixel_std have a value for each colour, 3")
        if self.image_size % math.prod(self.strides):
            raise ValueError(
                f"image_size {self.image_size} is no multiple of the product of "
                f"strides {self.strides}"
            )

    @property
    def grid(self) -> int:
        """Codes a side."""
        return self.image_size // math.prod(self.strides)

    @property
    def last_side(self) -> int:
        """Side of the kernel of the decoder's last convolution."""
        return 3 if self.resize else 1


class Encoder(nn.Module):
    """Pixels in [0, 1] [b, y, x, 3] -> vectors [b, grid, grid, code_dim]."""

    config: VQVAEConfig

    @nn.compact
    def __call__(self, images: Array) -> Array:
        cfg = self.config
        mean, std = jnp.array(cfg.pixel_mean), jnp.array(cfg.pixel_std)
        x = ((images - mean) / std).astype(images.dtype)
        for level, (width, stride) in enumerate(
            zip(cfg.widths, cfg.strides, strict=True)
        ):
            x = nn.relu(Down(width, stride, name=f"down_{level}")(x))
        for i in range(cfg.res_blocks):
            x = ResBlock(cfg.res_width, name=f"res_{i}")(x)
        return Conv(cfg.code_dim, (1, 1), name="out")(x)


class Decoder(nn.Module):
    """Vectors [b, grid, grid, code_dim] -> (last, pixels [b, y, x, 3], not clipped).

    last: inputs of the last convolution, [b, y, x, c].
    """

    config: VQVAEConfig

    @nn.compact
    def __call__(self, z_byxc: Array) -> tuple[Array, Array]:
        cfg = self.config
        x = z_byxc
        if cfg.res_blocks:
            x = Conv(cfg.widths[-1], (3, 3), name="in")(x)
        for i in range(cfg.res_blocks):
            x = ResBlock(cfg.res_width, name=f"res_{i}")(x)
        levels = list(zip(cfg.widths, cfg.strides, strict=True))
        for level, (width, stride) in reversed(list(enumerate(levels))):
            x = nn.relu(Up(width, stride, cfg.resize, name=f"up_{level}")(x))
        pixels = Conv(3, (cfg.last_side, cfg.last_side), name="out")(x)
        return x, pixels * jnp.array(cfg.pixel_std) + jnp.array(cfg.pixel_mean)


class VQVAE(nn.Module):
    """Encoder and decoder under one parameter tree."""

    config: VQVAEConfig

    def setup(self):
        self.encoder = Encoder(self.config, name="encoder")
        self.decoder = Decoder(self.config, name="decoder")

    def __call__(self, images: Array) -> Array:
        """Reconstruction without quantisation; touches every parameter (for `init`)."""
        return self.decode(self.encode(images))

    def encode(self, images: Array) -> Array:
        """Pixels in [0, 1] [b, y, x, 3] -> vectors [b, grid, grid, code_dim]."""
        return self.encoder(images)

    def code_logits(self, z_byxc: Array, codebook: Array) -> Array:
        """How well each code of [k, z] fits: [b, grid, grid, k]."""
        return code_logits(z_byxc, codebook)

    def decode(self, z_byxc: Array) -> Array:
        """Vectors [b, grid, grid, code_dim] -> pixels [b, y, x, 3]."""
        return self.decoder(z_byxc)[1]

    def decode_parts(self, z_byxc: Array) -> tuple[Array, Array]:
        """(inputs of the last convolution [b, y, x, c], pixels about [-1, 1])."""
        last, pixels = self.decoder(z_byxc)
        return last, 2 * pixels - 1
