"""Imagen's base U-Net: Dhariwal & Nichol's, with text among the keys (appendix B).

    in:   3x3, then a level: [ResBlock, Attention?] * res_blocks, ResBlock down
    mid:  ResBlock, Attention, ResBlock
    out:  a level: [join skip, ResBlock, Attention?] * (res_blocks + 1), ResBlock up
          norm, swish, 3x3 from zero

Levels count from the highest resolution. The network says its prediction in float32.
"""

from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from cogjax.config import check_ranges
from cogjax.nn.conv import Conv
from cogjax.nn.layers import GroupNorm
from cogjax.nn.unet import (
    LevelEmbedding,
    ResBlock,
    Text,
    TextAttention,
    TextPool,
    inputs,
)

# Not in the digests of models that are older.
_new = partial(field, metadata={"new": True})


@dataclass(frozen=True)
class UNetConfig:
    """Shape of the network.

    image_size: pixels a side. small_size: of the images that it enlarges, where it is
    compared with the Efficient U-Net; 0 for a base. width: channels of the first level;
    multipliers: of each level, which halve the image but for the last. res_blocks: of a
    level. attention: sides
    of the feature maps that have it. conditioning: "sequence" is the paper's; with
    "pooled" the text is in the embedding alone, its comparison. head_dim: of attention.
    embed: of noise level and pooled text. text_dim: of the encoder's tokens. groups: of
    group normalisation. dtype: of what is computed, but for norms, softmax and the
    prediction.
    """

    image_size: int = 64
    width: int = 512
    multipliers: tuple[int, ...] = (1, 2, 3, 4)
    res_blocks: int = 3
    attention: tuple[int, ...] = (32, 16, 8)
    conditioning: Literal["sequence", "pooled"] = _new(default="sequence")
    head_dim: int = 64
    embed: int = 512
    text_dim: int = 4096
    groups: int = 32
    dtype: Literal["float32", "bfloat16"] = "float32"
    small_size: int = _new(default=0)

    def __post_init__(self):
        sizes = ("image_size", "width", "multipliers", "res_blocks", "head_dim")
        sizes += ("embed", "text_dim", "groups")
        check_ranges(self, **dict.fromkeys(sizes, (1, 10**6)))
        check_ranges(self, small_size=(0, self.image_size))
        if self.image_size % 2 ** (len(self.multipliers) - 1):
            raise ValueError(
                f"image_size {self.image_size} does not halve "
                f"{len(self.multipliers) - 1} times"
            )
        sides = [self.image_size // 2**i for i in range(len(self.multipliers))]
        if not set(self.attention) <= set(sides):
            raise ValueError(
                f"attention is at {self.attention}, expected some of {sides}"
            )
        if self.embed % self.head_dim:
            raise ValueError(
                f"embed {self.embed} is no multiple of head_dim {self.head_dim}"
            )
        for width in self.widths:
            for name, part in (("groups", self.groups), ("head_dim", self.head_dim)):
                if width % part:
                    raise ValueError(f"width {width} is no multiple of {name} {part}")

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each level, highest resolution first."""
        return tuple(self.width * multiplier for multiplier in self.multipliers)


class UNet(nn.Module):
    """(z [b, y, x, 3], log-SNR [b], text) -> prediction float32 [b, y, x, 3].

    beside: with a small_size, what `EfficientUNet` has: (small, its log-SNR).
    """

    config: UNetConfig

    @nn.compact
    def __call__(self, z: Array, log_snr: Array, text: Text, *beside: Array) -> Array:
        cfg = self.config
        text = text._replace(tokens=text.tokens.astype(cfg.dtype))
        embedding = LevelEmbedding(cfg.embed, name="level")(log_snr)
        heads = cfg.embed // cfg.head_dim
        embedding += TextPool(cfg.embed, heads, name="pool")(text)
        if beside:
            small, level = beside
            embedding += LevelEmbedding(cfg.embed, name="small_level")(level)
            z = jnp.concatenate([z, small], axis=-1)
        x = Conv(cfg.width, (3, 3), dtype=cfg.dtype, name="in")(z.astype(cfg.dtype))
        x, skips = self._down(x, embedding, text)
        x = self._block("mid.block_0", x.shape[-1])(x, embedding)
        x = self._attention("mid.attention", x.shape[-1])(x, text)
        x = self._block("mid.block_1", x.shape[-1])(x, embedding)
        x = self._up(x, skips, embedding, text)
        x = nn.swish(GroupNorm(cfg.groups, name="norm_out")(x)).astype(jnp.float32)
        return Conv(3, (3, 3), kernel_init=nn.initializers.zeros, name="out")(x)

    def _down(self, x: Array, embedding: Array, text: Text):
        cfg, skips = self.config, [x]
        for level, width in enumerate(cfg.widths):
            for i in range(cfg.res_blocks):
                name = f"down.{level}.{i}"
                x = self._level_block(name, width, x, embedding, text)
                skips.append(x)
            if level < len(cfg.widths) - 1:
                x = self._block(f"down.{level}.halve", width, "down")(x, embedding)
                skips.append(x)
        return x, skips

    def _up(self, x: Array, skips: list[Array], embedding: Array, text: Text):
        cfg = self.config
        for level, width in reversed(list(enumerate(cfg.widths))):
            for i in range(cfg.res_blocks + 1):
                x = jnp.concatenate([x, skips.pop()], axis=-1)
                name = f"up.{level}.{i}"
                x = self._level_block(name, width, x, embedding, text)
            if level:
                x = self._block(f"up.{level}.double", width, "up")(x, embedding)
        return x

    def _level_block(self, name, width: int, x: Array, embedding: Array, text: Text):
        x = self._block(f"{name}.block", width)(x, embedding)
        if x.shape[1] in self.config.attention:
            x = self._attention(f"{name}.attention", width)(x, text)
        return x

    def _block(self, name: str, width: int, resample: str = "") -> ResBlock:
        return ResBlock(width, self.config.groups, resample, name=name)

    def _attention(self, name: str, width: int) -> TextAttention:
        cfg, heads = self.config, width // self.config.head_dim
        over = "both" if cfg.conditioning == "sequence" else "image"
        return TextAttention(width, heads, cfg.groups, over, name=name)


def param_shapes(config: UNetConfig) -> dict[str, Any]:
    """Nested shapes and dtypes of the parameters."""
    init, example = UNet(config).init, inputs(config, config.small_size > 0)
    return dict(jax.eval_shape(init, jax.random.key(0), *example)["params"])
