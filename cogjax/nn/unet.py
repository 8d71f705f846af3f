"""Blocks of diffusion's U-Nets: conditions, residual blocks, attention over text.

Images are [b, y, x, c]. The condition of a network is text, tokens [b, n, d] with a
mask [b, n], and an embedding [b, e] of the noise level and the pooled text. Norms and
softmax are in float32 whatever the rest is (Imagen, section 2.4 and appendix B).
"""

from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange
from jax import Array

from cogjax.nn.conv import Conv
from cogjax.nn.layers import Dense, GroupNorm
from cogjax.nn.lora import matrix_of
from cogjax.ops.image import doubled

_ZEROS = nn.initializers.zeros
# Layers that read an image or a noise level, and the one that writes the prediction.
_ENDS = ("in", "out", "level", "small_level")
Resample = Literal["", "down", "up"]


class Text(NamedTuple):
    """A text as vectors.

    tokens: [b, n, d], a frozen encoder's. mask: bool [b, n], False where there is no
    token; at least one of a row is True.
    """

    tokens: Array
    mask: Array


def inputs(config: Any, enlarges: bool) -> tuple[Any, ...]:
    """Shapes of one example's inputs of a U-Net: z, log-SNR, text; the small image and
    its log-SNR where it `enlarges`.
    """
    size, some = config.image_size, jax.ShapeDtypeStruct
    image, level = some((1, size, size, 3), jnp.float32), some((1,), jnp.float32)
    tokens, mask = some((1, 2, config.text_dim), jnp.float32), some((1, 2), bool)
    return image, level, Text(tokens, mask), *((image, level) if enlarges else ())


def matrix_axes(params: Any) -> Any:
    """(input axes, output axes) of the kernels within a U-Net, None for other leaves.

    A convolution's inputs are its window and channels together, as in Muon's own code
    (Jordan et al. 2024), which leaves first and last layers to AdamW. It is what
    `train/task.py` calls `matrix_axes`.
    """

    def axes(path, leaf):
        names = [part.key for part in path]
        found = matrix_of(names, leaf.shape)
        if found is None or names[0] in _ENDS:
            return None
        cut = len(found.inputs)
        return tuple(range(cut)), tuple(range(cut, leaf.ndim))

    return jax.tree_util.tree_map_with_path(axes, params)


class LevelEmbedding(nn.Module):
    """Embeds log-SNRs [b] -> [b, width]: sines and cosines, then two layers."""

    width: int
    features: int = 128

    @nn.compact
    def __call__(self, log_snr: Array) -> Array:
        # Periods from 63, beyond the range of log-SNRs, down to 0.063.
        rates = jnp.exp(jnp.linspace(jnp.log(0.1), jnp.log(100.0), self.features))
        angles = log_snr.astype(jnp.float32)[:, None] * rates
        x = jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)
        std = (2 * self.features) ** -0.5
        x = nn.swish(Dense((self.width,), std, name="in")(x))
        return Dense((self.width,), self.width**-0.5, name="out")(x)


class TextPool(nn.Module):
    """Attention pooling of a text -> [b, width], between norms (section 2.4)."""

    width: int
    heads: int

    @nn.compact
    def __call__(self, text: Text) -> Array:
        x = _layer_norm("norm")(text.tokens)
        count = jnp.sum(text.mask, -1, keepdims=True)[..., None]  # [b, 1, 1]
        mean = jnp.sum(jnp.where(text.mask[..., None], x, 0), 1, keepdims=True) / count
        dims = (self.heads, self.width // self.heads)
        std = x.shape[-1] ** -0.5
        q = Dense(dims, std, name="query")(mean)  # [b, 1, n, h]
        k, v = (Dense(dims, std, name=name)(x) for name in ("key", "value"))
        x = _attend(q, k, v, text.mask)[:, 0]  # [b, n, h]
        x = Dense((self.width,), self.width**-0.5, 2, name="out")(x)
        return _layer_norm("norm_out")(x)


class FiLM(nn.Module):
    """Group normalisation whose scale and shift the embedding [b, e] adds to."""

    groups: int

    @nn.compact
    def __call__(self, x_byxc: Array, embedding: Array) -> Array:
        width = x_byxc.shape[-1]
        film = nn.swish(embedding).astype(x_byxc.dtype)
        film = Conv(
            2 * width, (1, 1), kernel_init=_ZEROS, dtype=x_byxc.dtype, name="film"
        )(film[:, None, None])
        scale, shift = jnp.split(film, 2, axis=-1)
        return GroupNorm(self.groups, name="norm")(x_byxc) * (1 + scale) + shift


class ResBlock(nn.Module):
    """BigGAN's residual block: [b, y, x, c] -> [b, y', x', width].

    norm, swish, (resample), 3x3, FiLM, swish, 3x3 from zero; the skip is a 1x1
    convolution where the width changes.
    """

    width: int
    groups: int
    resample: Resample = ""

    @nn.compact
    def __call__(self, x_byxc: Array, embedding: Array) -> Array:
        dtype = x_byxc.dtype
        h = nn.swish(GroupNorm(self.groups, name="norm")(x_byxc))
        h, x = resample(h, self.resample), resample(x_byxc, self.resample)
        h = Conv(self.width, (3, 3), dtype=dtype, name="conv_in")(h)
        h = nn.swish(FiLM(self.groups, name="film")(h, embedding))
        h = Conv(self.width, (3, 3), kernel_init=_ZEROS, dtype=dtype, name="conv_out")(
            h
        )
        if x.shape[-1] != self.width:
            x = Conv(self.width, (1, 1), dtype=dtype, name="skip")(x)
        return x + h


class TextAttention(nn.Module):
    """Attention of an image [b, y, x, c] over itself and a text, added to it.

    over: "both" joins the text's keys and values to the image's own (section 2.4 and
    appendix B), "text" and "image" have one of them. inner: width of all heads.
    """

    inner: int
    heads: int
    groups: int
    over: Literal["both", "text", "image"] = "both"

    @nn.compact
    def __call__(self, x_byxc: Array, text: Text) -> Array:
        batch, rows, columns, width = x_byxc.shape
        dtype, dims = x_byxc.dtype, (self.heads, self.inner // self.heads)
        h = GroupNorm(self.groups, name="norm")(x_byxc)
        h = rearrange(h, "b y x c -> b (y x) c")
        project = lambda x, name: Dense(  # noqa: E731
            dims, x.shape[-1] ** -0.5, dtype=dtype, name=name
        )(x)
        q = project(h, "query")  # [b, y*x, n, h]
        keys, values, masks = [], [], []  # each [b, s, ...]
        if self.over != "text":
            keys.append(project(h, "key"))
            values.append(project(h, "value"))
            masks.append(jnp.ones((batch, rows * columns), bool))
        if self.over != "image":
            words = _layer_norm("text_norm")(text.tokens)
            keys.append(project(words, "text_key"))
            values.append(project(words, "text_value"))
            masks.append(text.mask)
        k, v, mask = (jnp.concatenate(x, axis=1) for x in (keys, values, masks))
        h = jnp.einsum("bnts,bsnh->btnh", self.weights(q, k, mask).astype(dtype), v)
        h = rearrange(h, "b (y x) n h -> b y x (n h)", x=columns)
        out = Conv(width, (1, 1), kernel_init=_ZEROS, dtype=dtype, name="out")
        return x_byxc + out(h)

    def weights(self, q: Array, k: Array, mask: Array) -> Array:
        """How much of each key a place takes: float32 [b, n, y*x, s], the text last.

        A method, so that who wants to see them can intercept it.
        """
        return _weights(q, k, mask)


def resample(x_byxc: Array, how: Resample) -> Array:
    """Halves by means, doubles by repeating, or leaves as it is."""
    if how == "up":
        return doubled(x_byxc)
    if how == "down":
        pairs = rearrange(x_byxc, "b (y i) (x j) c -> b y i x j c", i=2, j=2)
        return jnp.mean(pairs, axis=(2, 4))
    return x_byxc


def _attend(q: Array, k: Array, v: Array, mask: Array) -> Array:
    """Softmax attention: q [b, t, n, h], k and v [b, s, n, h], mask [b, s]."""
    weights = _weights(q, k, mask).astype(v.dtype)
    return jnp.einsum("bnts,bsnh->btnh", weights, v)


def _weights(q: Array, k: Array, mask: Array) -> Array:
    """float32 [b, n, t, s] of `_attend`, rows sum to 1."""
    scores = jnp.einsum("btnh,bsnh->bnts", q, k, preferred_element_type=jnp.float32)
    scores = jnp.where(mask[:, None, None], scores * q.shape[-1] ** -0.5, -jnp.inf)
    return nn.softmax(scores)


def _layer_norm(name: str) -> nn.LayerNorm:
    return nn.LayerNorm(epsilon=1e-5, use_fast_variance=False, name=name)
