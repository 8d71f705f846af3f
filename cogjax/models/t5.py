"""T5: the encoder of texts, and the decoder that it is pre-trained with.

    bias = relative_bias[buckets]        one table, added in all layers
    x = token_embedding[ids]             not scaled
    x = x + Attn(RMSNorm(x), bias);  x = x + MLP(RMSNorm(x))     a layer
    tokens = RMSNorm(x)

Raffel et al. 2020 (arXiv 1910.10683), section 2.1, and version 1.1 of the release: the
MLP is gated by a tanh-GELU there, a ReLU before. There are no biases, and no scale on
the scores. The start values are the release's.
"""

import functools
from dataclasses import dataclass
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from cogjax.config import check_ranges
from cogjax.nn.layers import Dense, RMSNorm, kernel_axes, weight
from cogjax.nn.stack import Remat, Stack
from cogjax.ops.relative_attention import biased_attention, relative_buckets
from cogjax.parallel.axes import constrain

# Which axes of the stacked [l, ...] kernels are inputs and which are outputs.
MATRIX_AXES = {
    "query": ((1,), (2, 3)),
    "key": ((1,), (2, 3)),
    "value": ((1,), (2, 3)),
    "attn_out": ((1, 2), (3,)),
    "mlp_gate": ((1,), (2,)),
    "mlp_in": ((1,), (2,)),
    "mlp_out": ((1,), (2,)),
}
matrix_axes = functools.partial(kernel_axes, MATRIX_AXES)

# Names of the last axes of each parameter, by its path (see `parallel/axes.py`).
PARAM_AXES = (
    ("(query|key|value)/kernel", ("embed", "heads", None)),
    ("attn_out/kernel", ("heads", None, "embed")),
    ("(mlp_gate|mlp_in)/kernel", ("embed", "mlp")),
    ("mlp_out/kernel", ("mlp", "embed")),
    ("token_embedding", ("vocab", "embed")),
    ("relative_bias", (None, "heads")),
)


@dataclass(frozen=True)
class T5Config:
    """Sizes of an encoder; the defaults are version 1.1 XXL, Imagen's.

    width: channels of the residual stream, and of a text's vectors. depth: number of
    layers. heads, head_dim: of attention. mlp_dim: inner channels of the MLP.
    vocab_size: rows of the table, padded. gated: version 1.1. num_buckets,
    max_distance: of `relative_buckets`. text_len: a text is cut to so many ids, the
    last of them its end; it changes no parameter, and Imagen's is not published. dtype:
    of the activations; parameters are float32. remat, unroll: see `nn/stack.py`.
    """

    width: int = 4096
    depth: int = 24
    heads: int = 64
    head_dim: int = 64
    mlp_dim: int = 10240
    vocab_size: int = 32128
    gated: bool = True
    num_buckets: int = 32
    max_distance: int = 128
    text_len: int = 256
    dtype: Literal["float32", "bfloat16"] = "float32"
    remat: Remat = "none"
    unroll: int = 1

    def __post_init__(self):
        check_ranges(
            self,
            width=(1, 2**16),
            depth=(1, 1024),
            heads=(1, 2**16),
            head_dim=(1, 2**16),
            mlp_dim=(1, 2**20),
            vocab_size=(1, 2**24),
            num_buckets=(4, 2**16),
            max_distance=(1, 2**24),
            text_len=(1, 2**16),
            unroll=(1, 1024),
        )
        # The decoder has half of the buckets for one distance each.
        if self.max_distance <= self.num_buckets // 2:
            raise ValueError(
                f"max_distance is {self.max_distance}, expected more than half of "
                f"num_buckets, {self.num_buckets}"
            )


# Sizes of Raffel et al. 2020, section 3.7, and of version 1.1.
CONFIGS = {
    "v1_0-small": T5Config(512, 6, 8, 64, 2048, gated=False),
    "v1_0-base": T5Config(768, 12, 12, 64, 3072, gated=False),
    "v1_0-large": T5Config(1024, 24, 16, 64, 4096, gated=False),
    "v1_0-3b": T5Config(1024, 24, 32, 128, 16384, gated=False),
    "v1_0-11b": T5Config(1024, 24, 128, 128, 65536, gated=False),
    "v1_1-small": T5Config(512, 8, 6, 64, 1024, gated=True),
    "v1_1-base": T5Config(768, 12, 12, 64, 2048, gated=True),
    "v1_1-large": T5Config(1024, 24, 16, 64, 2816, gated=True),
    "v1_1-xl": T5Config(2048, 24, 32, 64, 5120, gated=True),
    "v1_1-xxl": T5Config(4096, 24, 64, 64, 10240, gated=True),
}


class T5Encoder(nn.Module):
    """ids int [b, n] -> tokens [b, n, d]; `mask` bool [b, n], False for padding.

    No position sees padding. Those of padding have values too, which mean nothing.
    """

    config: T5Config

    @nn.compact
    def __call__(self, ids: Array, mask: Array) -> Array:
        cfg = self.config
        shape = cfg.vocab_size, cfg.width
        table = weight(self, "token_embedding", nn.initializers.normal(1.0), shape)
        x = embed(cfg, table, ids)
        bias = _relative_bias(self, ids.shape[1], both_ways=True)
        return _layers(self, _EncoderLayer(cfg, parent=None), x, bias, mask[:, None])


class T5Decoder(nn.Module):
    """x [b, m, d], embedded, and tokens [b, n, d] of a text -> states [b, m, d].

    A position sees itself and those before it, and the text where `mask` [b, n] is
    True. The config is the encoder's, but for its depth.
    """

    config: T5Config

    @nn.compact
    def __call__(self, x: Array, tokens: Array, mask: Array) -> Array:
        cfg, length = self.config, x.shape[1]
        bias = _relative_bias(self, length, both_ways=False)
        shared = bias, jnp.tri(length, dtype=bool)[None], tokens, mask[:, None]
        return _layers(self, _DecoderLayer(cfg, parent=None), x, *shared)


class _EncoderLayer(nn.Module):
    config: T5Config

    @nn.compact
    def __call__(self, x: Array, _: None, bias: Array, mask: Array):
        x += _Attention(self.config, name="attention")(x, None, bias, mask)
        return x + _MLP(self.config, name="mlp")(x), None


class _DecoderLayer(nn.Module):
    config: T5Config

    @nn.compact
    def __call__(self, x, _: None, bias, before, tokens, mask):
        x += _Attention(self.config, name="attention")(x, None, bias, before)
        x += _Attention(self.config, name="cross_attention")(x, tokens, None, mask)
        return x + _MLP(self.config, name="mlp")(x), None


class _Attention(nn.Module):
    """The branch of x [b, t, d]: to itself, or to `source` [b, s, d]."""

    config: T5Config

    @nn.compact
    def __call__(self, x: Array, source: Array | None, bias, mask) -> Array:
        cfg = self.config
        heads, width = (cfg.heads, cfg.head_dim), x.shape[-1]
        x = RMSNorm(name="norm")(x)
        source = x if source is None else source
        # Scores are not scaled: the start value of the query is, instead.
        query = _dense(cfg, heads, (width * cfg.head_dim) ** -0.5, "query")(x)
        key = _dense(cfg, heads, width**-0.5, "key")(source)
        value = _dense(cfg, heads, width**-0.5, "value")(source)
        split = "batch", None, "heads", None
        arrays = (constrain(each, *split) for each in (query, key, value))
        out = constrain(biased_attention(*arrays, bias, mask), *split)  # [b, t, n, h]
        std = (cfg.heads * cfg.head_dim) ** -0.5
        return _dense(cfg, (width,), std, "attn_out", num_axes=2)(out)


class _MLP(nn.Module):
    """The branch of x [b, t, d]."""

    config: T5Config

    @nn.compact
    def __call__(self, x: Array) -> Array:
        cfg, width = self.config, x.shape[-1]
        x = RMSNorm(name="norm")(x)
        h = _dense(cfg, (cfg.mlp_dim,), width**-0.5, "mlp_in")(x)
        if cfg.gated:
            gate = _dense(cfg, (cfg.mlp_dim,), width**-0.5, "mlp_gate")(x)
            h *= nn.gelu(gate)  # By tanh.
        else:
            h = nn.relu(h)
        h = constrain(h, "batch", None, "mlp")  # [b, t, mlp_dim]
        return _dense(cfg, (width,), cfg.mlp_dim**-0.5, "mlp_out")(h)


def embed(config: T5Config, table: Array, ids: Array) -> Array:
    """Rows of the table [v, d]: int [...] -> [..., d] in the config's dtype."""
    # Rows are looked up whole: a table that is split over its width is gathered first.
    return constrain(table, "vocab", None)[ids].astype(config.dtype)


def _layers(module: nn.Module, layer: nn.Module, x: Array, *shared: Array) -> Array:
    """All layers and the last norm."""
    cfg = module.config
    stack = Stack(layer, cfg.depth, cfg.remat, cfg.unroll, name="layers")
    x, _ = stack(constrain(x, "batch", "sequence", None), None, *shared)
    return RMSNorm(name="final_norm")(x)


def _relative_bias(module: nn.Module, length: int, both_ways: bool) -> Array:
    """What is added to the scores of all layers: [n, t, t]."""
    cfg = module.config
    init, shape = nn.initializers.normal(cfg.width**-0.5), (cfg.num_buckets, cfg.heads)
    table = weight(module, "relative_bias", init, shape)
    buckets = relative_buckets(length, both_ways, cfg.num_buckets, cfg.max_distance)
    return jnp.moveaxis(table[buckets], -1, 0)


def _dense(config: T5Config, features, std: float, name: str, num_axes: int = 1):
    dtype = jnp.dtype(config.dtype)
    return Dense(features, std, num_axes, dtype, use_bias=False, name=name)


def param_shapes(config: T5Config) -> Any:
    """Nested shapes and dtypes of the encoder's parameters, without computing any."""
    ids, mask = jnp.zeros((1, 2), jnp.int32), jnp.ones((1, 2), bool)
    return jax.eval_shape(T5Encoder(config).init, jax.random.key(0), ids, mask)[
        "params"
    ]
