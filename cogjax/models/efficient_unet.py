"""Imagen's Efficient U-Net for super-resolution (section 2.4, appendix B.1).

    in:    3x3 over the noisy image beside the enlarged small one
    DBlock a level: 3x3 stride 2, combine embeddings, ResNetBlock * n, Attention?
    UBlock a level: + skip, combine embeddings, ResNetBlock * n, Attention?, x2 and 3x3
    out:   1x1

Against the base U-Net the blocks stand at low resolutions, images shrink before a
level's convolutions and grow behind them, and skips are 1x1 convolutions.
"""

from dataclasses import dataclass
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from cogjax.config import check_ranges
from cogjax.nn.conv import Conv
from cogjax.nn.layers import GroupNorm
from cogjax.nn.unet import (
    FiLM,
    LevelEmbedding,
    Text,
    TextAttention,
    TextPool,
    inputs,
    resample,
)


@dataclass(frozen=True)
class EfficientUNetConfig:
    """Shape of the network.

    image_size: pixels a side of what is made; small_size: of what it is made from.
    widths, blocks: channels and ResNetBlocks of each level; every level halves.
    attention: of the last level, over the image and the text, the text alone (1,024
    pixels), or none. heads: of it; its inner width is twice the level's.
    skip_scale: what is scaled by 1/sqrt(2). The paper says "skip connections, as in"
    SR3, which scales the sums of residual blocks; others scale the skips between
    levels.
    embed, text_dim, groups, dtype: as in `UNetConfig`.
    """

    image_size: int = 256
    small_size: int = 64
    widths: tuple[int, ...] = (128, 256, 512, 1024)
    blocks: tuple[int, ...] = (2, 4, 8, 8)
    attention: Literal["both", "text", "none"] = "both"
    heads: int = 8
    skip_scale: Literal["residual", "long", "none"] = "residual"
    embed: int = 512
    text_dim: int = 4096
    groups: int = 32
    dtype: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self):
        sizes = ("image_size", "small_size", "widths", "blocks", "heads", "embed")
        sizes += ("text_dim", "groups")
        check_ranges(self, **dict.fromkeys(sizes, (1, 10**6)))
        if len(self.widths) != len(self.blocks):
            raise ValueError(f"widths {self.widths} and blocks {self.blocks} differ")
        if self.image_size % 2 ** len(self.widths):
            raise ValueError(
                f"image_size {self.image_size} does not halve {len(self.widths)} times"
            )
        if self.small_size > self.image_size:
            raise ValueError(
                f"small_size {self.small_size} is above image_size {self.image_size}"
            )
        wrong = [width for width in self.widths if width % self.groups]
        if wrong:
            raise ValueError(f"width {wrong[0]} is no multiple of groups {self.groups}")
        for width in (self.widths[-1], self.embed):
            if width % self.heads:
                raise ValueError(f"width {width} is no multiple of heads {self.heads}")


class ResNetBlock(nn.Module):
    """norm, swish, 3x3, norm, swish, 3x3, and a skip of 1x1; [b, y, x, c] stays so."""

    groups: int
    scale: float

    @nn.compact
    def __call__(self, x_byxc: Array) -> Array:
        width, dtype = x_byxc.shape[-1], x_byxc.dtype
        h = x_byxc
        for i in range(2):
            h = nn.swish(GroupNorm(self.groups, name=f"norm_{i}")(h))
            h = Conv(width, (3, 3), dtype=dtype, name=f"conv_{i}")(h)
        skip = Conv(width, (1, 1), dtype=dtype, name="skip")(x_byxc)
        return (skip + h) * self.scale


class EfficientUNet(nn.Module):
    """(z, log-SNR [b], text, small, its log-SNR [b]) -> prediction, float32 like z.

    z: [b, y, x, 3]. small: [b, y, x, 3], the small image enlarged, noise added to it at
    its log-SNR: noise-conditioning augmentation.
    """

    config: EfficientUNetConfig

    @nn.compact
    def __call__(
        self, z: Array, log_snr: Array, text: Text, small: Array, small_log_snr: Array
    ) -> Array:
        cfg = self.config
        text = text._replace(tokens=text.tokens.astype(cfg.dtype))
        embedding = LevelEmbedding(cfg.embed, name="level")(log_snr)
        embedding += LevelEmbedding(cfg.embed, name="small_level")(small_log_snr)
        embedding += TextPool(cfg.embed, cfg.heads, name="pool")(text)
        both = jnp.concatenate([z, small], axis=-1).astype(cfg.dtype)
        x = Conv(cfg.widths[0], (3, 3), dtype=cfg.dtype, name="in")(both)
        skips = []
        for level, width in enumerate(cfg.widths):
            name = f"down.{level}"
            down = Conv(width, (3, 3), strides=2, dtype=cfg.dtype, name=f"{name}.conv")
            x = self._level(name, down(x), embedding, text, level)
            skips.append(x)
        long = 2**-0.5 if cfg.skip_scale == "long" else 1.0
        for level in reversed(range(len(cfg.widths))):
            name = f"up.{level}"
            x = x + skips[level] * long
            x = self._level(name, x, embedding, text, level)
            width = cfg.widths[max(level - 1, 0)]
            up = Conv(width, (3, 3), dtype=cfg.dtype, name=f"{name}.conv")
            x = up(resample(x, "up"))
        zeros = nn.initializers.zeros
        out = Conv(3, (1, 1), kernel_init=zeros, name="out")
        return out(x.astype(jnp.float32))

    def _level(self, name: str, x: Array, embedding: Array, text: Text, level: int):
        cfg = self.config
        x = FiLM(cfg.groups, name=f"{name}.combine")(x, embedding)
        scale = 2**-0.5 if cfg.skip_scale == "residual" else 1.0
        for i in range(cfg.blocks[level]):
            x = ResNetBlock(cfg.groups, scale, name=f"{name}.block_{i}")(x)
        if level < len(cfg.widths) - 1 or cfg.attention == "none":
            return x
        inner = 2 * cfg.widths[level]
        name = f"{name}.attention"
        attend = TextAttention(inner, cfg.heads, cfg.groups, cfg.attention, name=name)
        return attend(x, text)


def param_shapes(config: EfficientUNetConfig) -> dict[str, Any]:
    """Nested shapes and dtypes of the parameters."""
    init, example = EfficientUNet(config).init, inputs(config, enlarges=True)
    return dict(jax.eval_shape(init, jax.random.key(0), *example)["params"])
