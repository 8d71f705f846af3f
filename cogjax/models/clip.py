"""CLIP with vision transformers (Radford et al. 2021, arXiv 2103.00020): images and
captions as vectors whose cosine says how they fit.

Parameters start as in OpenAI's code, for both towers as there for the text's.
"""

import functools
import math
from dataclasses import dataclass, field
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from cogjax.config import check_ranges
from cogjax.nn.conv import Conv
from cogjax.nn.layers import kernel_axes, weight
from cogjax.nn.stack import Stack
from cogjax.ops.attention import attention
from cogjax.ops.losses import bounded_exp
from cogjax.parallel.axes import constrain

VOCAB_SIZE = 49408
_HEAD_DIM = 64
_GROUP = 8  # channels of a stem that are normalised together
_HALF = (0.5, 0.5, 0.5)
# Mean and deviation of the colours that OpenAI's weights read.
OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)
# Section 2.5: logits are cosines times at most 100, so that training stays stable.
MAX_SCALE = 100.0
_START_SCALE = 1 / 0.07

# Which axes of the blocks' stacked [l, ...] kernels, and of a stem's, are inputs and
# which are outputs.
MATRIX_AXES = {
    **dict.fromkeys(("in_proj", "out_proj", "c_fc", "c_proj"), ((1,), (2,))),
    **{f"stem_{level}": ((0, 1, 2), (3,)) for level in range(8)},
}
matrix_axes = functools.partial(kernel_axes, MATRIX_AXES)


@dataclass(frozen=True)
class ClipConfig:
    """Sizes of both towers; both have heads of 64.

    image_size, patch: pixels a side. width, depth: of the image tower. text_width,
    text_depth: of the text tower. embed_dim: width of the vectors that both towers
    give. vocab_size: rows of the table of text ids. text_len: most ids of a caption,
    start and end included. pixel_mean, pixel_std: of `normalized`, for pixels in [0,
    1]. stem: widths of 3x3 convolutions of stride 2 in place of the one that makes
    patches; few images teach it more (Xiao et al. 2021, arXiv 2106.14881, without
    BatchNorm).
    """

    image_size: int
    patch: int
    width: int
    depth: int
    embed_dim: int
    text_width: int
    text_depth: int = 12
    vocab_size: int = VOCAB_SIZE
    text_len: int = 77
    pixel_mean: tuple[float, ...] = field(default=_HALF, metadata={"new": True})
    pixel_std: tuple[float, ...] = field(default=_HALF, metadata={"new": True})
    stem: tuple[int, ...] = field(default=(), metadata={"new": True})

    def __post_init__(self):
        sizes = (
            "image_size",
            "patch",
            "embed_dim",
            "depth",
            "text_depth",
            "vocab_size",
        )
        check_ranges(self, **dict.fromkeys(sizes, (1, 10**6)))
        check_ranges(self, pixel_mean=(-100, 100), pixel_std=(1e-6, 100))
        if not len(self.pixel_mean) == len(self.pixel_std) == 3:
            raise ValueError("pixel_mean and pixel_std have a value for each colour, 3")
        self._check_stem()
        for name in ("width", "text_width"):
            value = getattr(self, name)
            if value < 1 or value % _HEAD_DIM:
                raise ValueError(
                    f"{name} is {value}, expected a multiple of {_HEAD_DIM}"
                )
        if self.patch < 1 or self.image_size % self.patch:
            raise ValueError(
                f"image_size is {self.image_size}, expected a multiple of patch, "
                f"{self.patch}"
            )
        if self.text_len < 3:
            raise ValueError(f"text_len is {self.text_len}, expected 3 or more")

    def _check_stem(self):
        if any(each < 1 or each % _GROUP for each in self.stem):
            raise ValueError(f"stem is {self.stem}, expected multiples of {_GROUP}")
        if self.stem and self.patch != 2 ** len(self.stem):
            raise ValueError(
                f"stem has {len(self.stem)} convolutions, which make patches of "
                f"{2 ** len(self.stem)}: expected that as patch, got {self.patch}"
            )

    @property
    def num_patches(self) -> int:
        """Positions of an image, without the one of the class."""
        return (self.image_size // self.patch) ** 2


CONFIGS = {
    "vit-b-32": ClipConfig(224, 32, 768, 12, 512, 512),
    "vit-b-16": ClipConfig(224, 16, 768, 12, 512, 512),
    "vit-l-14": ClipConfig(224, 14, 1024, 24, 768, 768),
    "vit-l-14-336": ClipConfig(336, 14, 1024, 24, 768, 768),
}


class Clip(nn.Module):
    """Both towers; `encode_image` and `encode_text` run one of them."""

    config: ClipConfig

    def setup(self):
        config = self.config
        self.visual = _Vision(config)
        self.text = _Text(config)
        start = nn.initializers.constant(math.log(_START_SCALE))
        self.logit_scale = weight(self, "logit_scale", start, ())

    def encode_image(self, x_byxc: Array) -> Array:
        """Normalised pixels [b, image_size, image_size, 3] -> [b, embed_dim]."""
        return self.visual(x_byxc)

    def encode_text(self, ids: Array) -> Array:
        """Token ids [b, t], t up to `text_len` -> [b, embed_dim].

        The vector is the one of the end token, which has the highest id of all.
        """
        return self.text(ids)

    def __call__(self, x_byxc: Array, ids: Array) -> Array:
        """Logits [images, captions]: cosines times the learnt scale, at most 100.

        On a mesh each device compares its own images with the captions of all.
        """
        images = constrain(unit(self.encode_image(x_byxc)), "batch", None)
        texts = constrain(unit(self.encode_text(ids)), None, None)
        return bounded_exp(self.logit_scale, MAX_SCALE) * images @ texts.T


class _Vision(nn.Module):
    config: ClipConfig

    @nn.compact
    def __call__(self, x_byxc: Array) -> Array:
        c = self.config
        for level, width in enumerate(c.stem):
            x_byxc = Conv(width, (3, 3), (2, 2), name=f"stem_{level}")(x_byxc)
            norm = nn.GroupNorm(None, group_size=_GROUP, name=f"stem_norm_{level}")
            x_byxc = nn.relu(norm(x_byxc))
        patch = (1, 1) if c.stem else (c.patch, c.patch)
        conv = Conv(c.width, patch, patch, "VALID", use_bias=False, name="conv1")
        x = conv(x_byxc).reshape(x_byxc.shape[0], -1, c.width)
        std = c.width**-0.5
        first = _normal(self, "class_embedding", std, c.width)
        first = jnp.broadcast_to(first, (x.shape[0], 1, c.width))
        places = (c.num_patches + 1, c.width)
        x = jnp.concatenate([first, x], axis=1)
        x += _normal(self, "positional_embedding", std, *places)
        everything = jnp.ones((1, 1, 1), bool)
        blocks = Stack(_Block(c.width, c.depth, parent=None), c.depth, name="blocks")
        x, _ = blocks(_norm("ln_pre")(x), None, everything)
        x = _norm("ln_post")(x[:, 0])
        return x @ _normal(self, "proj", std, c.width, c.embed_dim)


class _Text(nn.Module):
    config: ClipConfig

    @nn.compact
    def __call__(self, ids: Array) -> Array:
        c = self.config
        length = ids.shape[1]
        width, depth, std = c.text_width, c.text_depth, c.text_width**-0.5
        start = nn.initializers.normal(0.02)
        x = nn.Embed(c.vocab_size, width, embedding_init=start, name="token_embedding")(
            ids
        )
        places = _normal(self, "positional_embedding", 0.01, c.text_len, width)
        before = jnp.tri(length, dtype=bool)[None]
        blocks = Stack(_Block(width, depth, parent=None), depth, name="blocks")
        x, _ = blocks(x + places[:length], None, before)
        end = jnp.argmax(ids, axis=-1)[:, None, None]
        x = _norm("ln_final")(jnp.take_along_axis(x, end, axis=1)[:, 0])
        return x @ _normal(self, "text_projection", std, width, c.embed_dim)


class _Block(nn.Module):
    """Pre-norm attention and MLP: x [b, t, d], mask as in `ops.attention`.

    depth: blocks in all; the more there are, the less each adds at the start.
    """

    width: int
    depth: int

    @nn.compact
    def __call__(self, x: Array, _: None, mask: Array) -> tuple[Array, None]:
        std, out_std = self.width**-0.5, (2 * self.depth * self.width) ** -0.5
        qkv = _dense(3 * self.width, std, "in_proj")(_norm("ln_1")(x))
        heads = qkv.reshape(*x.shape[:2], 3, -1, _HEAD_DIM)
        query, key, value = (heads[:, :, i] for i in range(3))
        h = attention(query, key, value, mask, alpha=1.0).reshape(x.shape)
        x += _dense(self.width, out_std, "out_proj")(h)
        h = _dense(4 * self.width, std / math.sqrt(2), "c_fc")(_norm("ln_2")(x))
        # Not the usual GELU: the weights were trained with this one.
        h *= jax.nn.sigmoid(1.702 * h)
        return x + _dense(self.width, out_std, "c_proj")(h), None


def normalized(config: ClipConfig, pixels: Array) -> Array:
    """Pixels in [0, 1] [b, y, x, 3] -> what `encode_image` reads."""
    return (pixels - jnp.array(config.pixel_mean)) / jnp.array(config.pixel_std)


def unit(vectors: Array) -> Array:
    """Vectors [n, d] scaled to length 1."""
    return vectors / jnp.linalg.norm(vectors, axis=-1, keepdims=True)


def param_shapes(config: ClipConfig) -> Any:
    """Nested shapes of the parameters of `Clip`."""
    images = jnp.zeros((1, config.image_size, config.image_size, 3))
    ids = jnp.zeros((1, config.text_len), jnp.int32)
    return jax.eval_shape(Clip(config).init, jax.random.key(0), images, ids)["params"]


def _norm(name: str) -> nn.LayerNorm:
    return nn.LayerNorm(epsilon=1e-5, use_fast_variance=False, name=name)


def _dense(features: int, std: float, name: str) -> nn.Dense:
    return nn.Dense(features, kernel_init=nn.initializers.normal(std), name=name)


def _normal(module: nn.Module, name: str, std: float, *shape: int) -> Array:
    return weight(module, name, nn.initializers.normal(std), shape)
