"""VQGAN's encoder and decoder (Esser et al. 2021, arXiv 2012.09841, section 3).

    encoder: 3x3, [(Block, Attention?) * res_blocks, stride 2] a level, mid, norm, 3x3
    decoder: 3x3, mid, [(Block, Attention?) * (res_blocks + 1), x2] a level, norm, 3x3
    mid:     Block, Attention, Block
    Block:   x + conv3(swish(norm(conv3(swish(norm(x))))))
    1x1 convolutions stand before the codes (`quant_conv`) and behind them.

Children are named as in the release, with "/" for its dots where modules nest, so that
`encoder/down.0.block.0/conv1/kernel` is its `encoder.down.0.block.0.conv1.weight`.
Levels count from the highest resolution, in the decoder too. The codebook [k, z] is no
part of the network (`tasks/tokenizer.py`). No dropout: all published models have none.
"""

from dataclasses import dataclass, field
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from einops import rearrange
from jax import Array

from cogjax.config import check_ranges
from cogjax.nn.conv import Conv, Halve, Up
from cogjax.nn.layers import GroupNorm
from cogjax.ops.quantize import code_logits, unit


@dataclass(frozen=True)
class VQGANConfig:
    """Shape of the tokenizer.

    image_size: pixels a side. width: channels of the first level; multipliers: of each
    level, which halve the image but for the last. res_blocks: of a level. attention:
    sides of the feature maps that have it for an image of `image_size`; that chooses
    levels, whose blocks attend at any size of image. z_dim: channels of the encoder's
    output. code_dim: of a code. codebook_size: number of codes.
    form: "nearest" code; "cosine": that of the vector of length 1, as the codes have
    (Yu et al. 2021, arXiv 2110.04627); or "gumbel": a 1x1 convolution gives each code's
    logit.
    groups, epsilon: of group normalisation. black: what the network has for black,
    white being 1; taming's is -1, DALL-E mini's is used with 0. encodes: False is a
    decoder alone.
    """

    image_size: int = 256
    width: int = 128
    multipliers: tuple[int, ...] = (1, 1, 2, 2, 4)
    res_blocks: int = 2
    attention: tuple[int, ...] = (16,)
    z_dim: int = 256
    code_dim: int = 256
    codebook_size: int = 16384
    form: Literal["nearest", "cosine", "gumbel"] = "nearest"
    groups: int = 32
    black: Literal[-1, 0] = field(default=-1, metadata={"new": True})
    epsilon: float = field(default=1e-6, metadata={"new": True})
    encodes: bool = field(default=True, metadata={"new": True})

    def __post_init__(self):
        check_ranges(
            self,
            image_size=(1, 2**14),
            width=(1, 2**16),
            multipliers=(1, 256),
            res_blocks=(1, 256),
            z_dim=(1, 2**16),
            code_dim=(1, 2**16),
            codebook_size=(1, 2**24),
            groups=(1, 2**16),
            epsilon=(1e-12, 1),
        )
        if not 0 < len(self.multipliers) <= 16:
            raise ValueError(f"{len(self.multipliers)} multipliers, expected 1 to 16")
        if self.image_size % 2 ** (len(self.multipliers) - 1):
            raise ValueError(
                f"image_size {self.image_size} does not halve "
                f"{len(self.multipliers) - 1} times"
            )
        wrong = [width for width in self.widths if width % self.groups]
        if wrong:
            raise ValueError(f"width {wrong[0]} is no multiple of groups {self.groups}")

    @property
    def norms(self) -> tuple[int, float]:
        """(groups, epsilon)."""
        return self.groups, self.epsilon

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each level, highest resolution first."""
        return tuple(self.width * multiplier for multiplier in self.multipliers)

    @property
    def attention_levels(self) -> tuple[int, ...]:
        """Levels whose blocks are followed by attention, highest resolution first."""
        levels = range(len(self.multipliers))
        return tuple(i for i in levels if self.image_size // 2**i in self.attention)

    @property
    def grid(self) -> int:
        """Codes a side."""
        return self.image_size // 2 ** (len(self.multipliers) - 1)


class Block(nn.Module):
    """Residual block [b, y, x, c] -> [b, y, x, width]."""

    width: int
    groups: int
    epsilon: float = 1e-6

    @nn.compact
    def __call__(self, x_byxc: Array) -> Array:
        h = nn.swish(GroupNorm(self.groups, self.epsilon, name="norm1")(x_byxc))
        h = Conv(self.width, (3, 3), name="conv1")(h)
        h = nn.swish(GroupNorm(self.groups, self.epsilon, name="norm2")(h))
        h = Conv(self.width, (3, 3), name="conv2")(h)
        if x_byxc.shape[-1] != self.width:
            x_byxc = Conv(self.width, (1, 1), name="nin_shortcut")(x_byxc)
        return x_byxc + h


class Attention(nn.Module):
    """One head over all places of [b, y, x, d], with its residual."""

    groups: int
    epsilon: float = 1e-6

    @nn.compact
    def __call__(self, x_byxd: Array) -> Array:
        side, width = x_byxd.shape[2], x_byxd.shape[-1]
        h = GroupNorm(self.groups, self.epsilon, name="norm")(x_byxd)
        q, k, v = (
            rearrange(Conv(width, (1, 1), name=name)(h), "b y x d -> b (y x) d")
            for name in ("q", "k", "v")
        )
        weights = nn.softmax(jnp.einsum("btd,bsd->bts", q, k) * width**-0.5)
        h = jnp.einsum("bts,bsd->btd", weights, v)
        h = rearrange(h, "b (y x) d -> b y x d", x=side)
        return x_byxd + Conv(width, (1, 1), name="proj_out")(h)


def _middle(x: Array, norms: tuple[int, float]) -> Array:
    """Block, attention, block; called inside a compact module."""
    x = Block(x.shape[-1], *norms, name="mid.block_1")(x)
    x = Attention(*norms, name="mid.attn_1")(x)
    return Block(x.shape[-1], *norms, name="mid.block_2")(x)


class Encoder(nn.Module):
    """Pixels in [-1, 1] [b, y, x, 3] -> [b, grid, grid, z_dim]."""

    config: VQGANConfig

    @nn.compact
    def __call__(self, x: Array) -> Array:
        cfg = self.config
        x = Conv(cfg.width, (3, 3), name="conv_in")(x)
        for level, width in enumerate(cfg.widths):
            name = f"down.{level}"
            for i in range(cfg.res_blocks):
                x = Block(width, *cfg.norms, name=f"{name}.block.{i}")(x)
                if level in cfg.attention_levels:
                    x = Attention(*cfg.norms, name=f"{name}.attn.{i}")(x)
            if level < len(cfg.widths) - 1:
                x = Halve(width, name=f"{name}.downsample.conv")(x)
        x = nn.swish(GroupNorm(*cfg.norms, name="norm_out")(_middle(x, cfg.norms)))
        return Conv(cfg.z_dim, (3, 3), name="conv_out")(x)


class Decoder(nn.Module):
    """[b, grid, grid, z_dim] -> pixels about [-1, 1] [b, y, x, 3].

    Returns (inputs of the last convolution [b, y, x, width], pixels): the adaptive
    weight of training compares gradients at that convolution.
    """

    config: VQGANConfig

    @nn.compact
    def __call__(self, z_byxc: Array) -> tuple[Array, Array]:
        cfg = self.config
        x = Conv(cfg.widths[-1], (3, 3), name="conv_in")(z_byxc)
        x = _middle(x, cfg.norms)
        for level, width in reversed(list(enumerate(cfg.widths))):
            name = f"up.{level}"
            for i in range(cfg.res_blocks + 1):
                x = Block(width, *cfg.norms, name=f"{name}.block.{i}")(x)
                if level in cfg.attention_levels:
                    x = Attention(*cfg.norms, name=f"{name}.attn.{i}")(x)
            if level:
                x = Up(width, resize=True, name=f"{name}.upsample.conv")(x)
        hidden = nn.swish(GroupNorm(*cfg.norms, name="norm_out")(x))
        return hidden, Conv(3, (3, 3), name="conv_out")(hidden)


class VQGAN(nn.Module):
    """Encoder and decoder under one parameter tree; pixels in [0, 1] outside."""

    config: VQGANConfig

    def setup(self):
        cfg = self.config
        self.decoder = Decoder(cfg, name="decoder")
        if cfg.encodes:
            self.encoder = Encoder(cfg, name="encoder")
            self.quant_conv = Conv(cfg.code_dim, (1, 1), name="quant_conv")
        self.post_quant_conv = Conv(cfg.z_dim, (1, 1), name="post_quant_conv")
        if cfg.form == "gumbel":
            self.proj = Conv(cfg.codebook_size, (1, 1), name="quantize.proj")

    def __call__(self, images: Array) -> Array:
        """Reconstruction without quantisation; touches every parameter (for `init`)."""
        cfg = self.config
        if not cfg.encodes:
            return self.decode(jnp.zeros((1, cfg.grid, cfg.grid, cfg.code_dim)))
        z = self.encode(images)
        if self.config.form == "gumbel":
            self.proj(z)
        return self.decode(z)

    def encode(self, images: Array) -> Array:
        """Pixels in [0, 1] [b, y, x, 3] -> vectors [b, grid, grid, code_dim]."""
        black = self.config.black
        return self.quant_conv(self.encoder((1 - black) * images + black))

    def code_logits(self, z_byxc: Array, codebook: Array) -> Array:
        """How well each code of [k, z] fits: [b, grid, grid, k], free of noise.

        taming's gumbel encoder adds noise at inference too, so that its codes of an
        image are random.
        """
        if self.config.form == "gumbel":
            return self.proj(z_byxc)
        if self.config.form == "cosine":
            z_byxc = unit(z_byxc)
        return code_logits(z_byxc, codebook)

    def decode(self, z_byxc: Array) -> Array:
        """Vectors [b, grid, grid, code_dim] -> pixels [b, y, x, 3], not clipped."""
        return (self.decode_parts(z_byxc)[1] + 1) / 2

    def decode_parts(self, z_byxc: Array) -> tuple[Array, Array]:
        """As `Decoder`: (input of the last convolution, pixels about [-1, 1])."""
        hidden, pixels = self.decoder(self.post_quant_conv(z_byxc))
        return hidden, pixels if self.config.black else 2 * pixels - 1
