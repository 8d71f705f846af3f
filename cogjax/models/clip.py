"""OpenAI's CLIP with vision transformers, inference only (Radford et al. 2021,
arXiv 2103.00020): images and captions as vectors whose cosine says how they fit.
"""

from dataclasses import dataclass

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from cogjax.nn.conv import Conv
from cogjax.nn.layers import weight
from cogjax.nn.stack import Stack
from cogjax.ops.attention import attention

TEXT_LEN = 77
VOCAB_SIZE = 49408
_HEAD_DIM = 64


@dataclass(frozen=True)
class ClipConfig:
    """Sizes of both towers; both have heads of 64.

    image_size, patch: pixels; width, depth: of the image tower; embed_dim: width of
    the vectors that both towers give.
    """

    image_size: int
    patch: int
    width: int
    depth: int
    embed_dim: int
    text_width: int
    text_depth: int = 12
    vocab_size: int = VOCAB_SIZE

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
        self.logit_scale = _zeros(self, "logit_scale")

    def encode_image(self, x_byxc: Array) -> Array:
        """Normalised pixels [b, image_size, image_size, 3] -> [b, embed_dim]."""
        return self.visual(x_byxc)

    def encode_text(self, ids: Array) -> Array:
        """Token ids [b, t], t up to 77 -> [b, embed_dim].

        The vector is the one of the end token, which has the highest id of all.
        """
        return self.text(ids)

    def __call__(self, x_byxc: Array, ids: Array) -> Array:
        """Logits [images, captions]: cosines times the learnt temperature."""
        images, texts = self.encode_image(x_byxc), self.encode_text(ids)
        images /= jnp.linalg.norm(images, axis=-1, keepdims=True)
        texts /= jnp.linalg.norm(texts, axis=-1, keepdims=True)
        return jnp.exp(self.logit_scale) * images @ texts.T


class _Vision(nn.Module):
    config: ClipConfig

    @nn.compact
    def __call__(self, x_byxc: Array) -> Array:
        c = self.config
        patch = (c.patch, c.patch)
        conv = Conv(c.width, patch, patch, "VALID", use_bias=False, name="conv1")
        x = conv(x_byxc).reshape(len(x_byxc), -1, c.width)
        first = _zeros(self, "class_embedding", c.width)
        first = jnp.broadcast_to(first, (len(x), 1, c.width))
        x = jnp.concatenate([first, x], axis=1) + _zeros(
            self, "positional_embedding", c.num_patches + 1, c.width
        )
        everything = jnp.ones((1, 1, 1), bool)
        blocks = Stack(_Block(c.width, parent=None), c.depth, name="blocks")
        x, _ = blocks(_norm("ln_pre")(x), None, everything)
        x = _norm("ln_post")(x[:, 0])
        return x @ _zeros(self, "proj", c.width, c.embed_dim)


class _Text(nn.Module):
    config: ClipConfig

    @nn.compact
    def __call__(self, ids: Array) -> Array:
        c = self.config
        length = ids.shape[1]
        x = nn.Embed(c.vocab_size, c.text_width, name="token_embedding")(ids)
        places = _zeros(self, "positional_embedding", TEXT_LEN, c.text_width)
        before = jnp.tri(length, dtype=bool)[None]
        blocks = Stack(_Block(c.text_width, parent=None), c.text_depth, name="blocks")
        x, _ = blocks(x + places[:length], None, before)
        x = _norm("ln_final")(x[jnp.arange(len(x)), jnp.argmax(ids, axis=-1)])
        return x @ _zeros(self, "text_projection", c.text_width, c.embed_dim)


class _Block(nn.Module):
    """Pre-norm attention and MLP: x [b, t, d], mask as in `ops.attention`."""

    width: int

    @nn.compact
    def __call__(self, x: Array, _: None, mask: Array) -> tuple[Array, None]:
        qkv = nn.Dense(3 * self.width, name="in_proj")(_norm("ln_1")(x))
        heads = qkv.reshape(*x.shape[:2], 3, -1, _HEAD_DIM)
        query, key, value = (heads[:, :, i] for i in range(3))
        h = attention(query, key, value, mask, alpha=1.0).reshape(x.shape)
        x += nn.Dense(self.width, name="out_proj")(h)
        h = nn.Dense(4 * self.width, name="c_fc")(_norm("ln_2")(x))
        # Not the usual GELU: the weights were trained with this one.
        h *= jax.nn.sigmoid(1.702 * h)
        return x + nn.Dense(self.width, name="c_proj")(h), None


def _norm(name: str) -> nn.LayerNorm:
    return nn.LayerNorm(epsilon=1e-5, use_fast_variance=False, name=name)


def _zeros(module: nn.Module, name: str, *shape: int) -> Array:
    return weight(module, name, nn.initializers.zeros, shape)
