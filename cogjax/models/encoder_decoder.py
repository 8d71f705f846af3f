"""DALL-E mini's network: an encoder of a text, and a decoder of codes that looks at it.

    x = norm(token_embedding[ids] + position_embedding[0 ..])
    x = x + norm(Attn(norm(x)))                     encoder and decoder
    x = x + norm(Attn(norm(x), encoded text))       decoder
    x = x + W2 norm(gelu(W0 norm(x)) * W1 norm(x))  encoder and decoder
    states = norm(x);  logits = states @ head^T     not tied

BART (Lewis et al. 2019, arXiv 1910.13461) with the norms of NormFormer (Shleifer et al.
2021, arXiv 2110.09456) and a gated MLP, as in borisdayma/dalle-mini. Nothing has a bias
but the norms; norms before a product have no scale. The GELU is the exact one.
"""

from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from cogjax.models.encoder_decoder_config import EncoderDecoderConfig
from cogjax.nn.block import RESIDUAL
from cogjax.nn.layers import Dense, LayerNorm, weight
from cogjax.nn.stack import Stack
from cogjax.ops import packed as matmul
from cogjax.ops.attention import attention, causal_attention
from cogjax.ops.cache import Cache, insert_prefix
from cogjax.ops.cross_attention import cross_attention
from cogjax.ops.fused_attention import choose
from cogjax.ops.sparse_attention import cached_attention
from cogjax.parallel.axes import constrain, over_heads

# Which axes of the stacked [l, ...] kernels are inputs and which are outputs.
MATRIX_AXES = {
    "qkv": ((1,), (2, 3, 4)),
    "attn_out": ((1, 2), (3,)),
    "cross_query": ((1,), (2, 3)),
    "cross_key_value": ((1,), (2, 3, 4)),
    "cross_out": ((1, 2), (3,)),
    "mlp_in": ((1,), (2, 3)),
    "mlp_out": ((1,), (2,)),
}
# Names of the last axes of each parameter, by its path (see `parallel/axes.py`).
PARAM_AXES = (
    ("(qkv|cross_key_value)/kernel", ("embed", None, "heads", None)),
    ("cross_query/kernel", ("embed", "heads", None)),
    ("(attn|cross)_out/kernel", ("heads", None, "embed")),
    ("mlp_in/kernel", ("embed", None, "mlp")),
    ("mlp_out/kernel", ("mlp", "embed")),
    ("(token_embedding|head)", ("vocab", "embed")),
    ("position_embedding", (None, "embed")),
)
_STD = 0.02


class LayerCache(NamedTuple):
    """Cache of one layer of the decoder, for b sequences of p texts.

    own: of the codes; its prefix is the start, which is the same for all of a text.
    key, value: of the encoded texts.
    """

    own: Cache
    key: Array  # [p, n, h, t]
    value: Array  # [p, n, t, h]


class EncoderDecoder(nn.Module):
    """Reads texts by `encode`, and is called to go on with codes."""

    config: EncoderDecoderConfig

    def setup(self):
        self.encoder = Encoder(self.config, name="encoder")
        self.decoder = Decoder(self.config, name="decoder")

    def encode(self, ids: Array, mask: Array) -> Array:
        """ids int, mask bool [b, t], False for padding -> states [b, t, d]."""
        return self.encoder(ids, mask)

    def score(self, ids: Array, mask: Array, codes: Array) -> Array:
        """Logits float32 [b, m + 1, v]: of codes int [b, m] and of the one behind them.

        ids, mask: as of `encode`. m is below the config's image_len.
        """
        start = jnp.full((len(codes), 1), self.config.start, codes.dtype)
        inputs = jnp.concatenate([start, codes], axis=1)
        return self.decoder(inputs, None, self.encoder(ids, mask), mask)[0]

    def prefill(
        self, ids: Array, mask: Array, cache: list[LayerCache]
    ) -> tuple[Array, list[LayerCache]]:
        """(logits [p, v] of the first code, cache) of p texts, as of `encode`."""
        start = jnp.full((len(ids), 1), self.config.start, jnp.int32)
        logits, cache = self.decoder(start, None, self.encoder(ids, mask), mask, cache)
        return logits[:, 0], cache

    def __call__(
        self,
        codes: Array,
        positions: Array,
        visible: Array,
        cache: list[LayerCache],
        place: Array,
    ) -> tuple[Array, list[LayerCache]]:
        """One step of sampling, as `sampling/tokens/autoregressive.py` calls a network.

        Args:
          codes: int [b, u], the tokens from `place` on; positions: theirs, int [b, u].
          visible: bool [p, t], which pieces of the texts are no padding.
          cache: of `prefill`, and of the codes before them.
          place: int scalar, or [b] for a cache with a window.

        Returns:
          (logits float32 [b, u, v] of the code behind each, cache with these).
        """
        return self.decoder(codes, positions, None, visible, cache, place)


class Encoder(nn.Module):
    """ids int, mask bool [b, t], False for padding -> [b, t, d]."""

    config: EncoderDecoderConfig

    @nn.compact
    def __call__(self, ids: Array, mask: Array) -> Array:
        cfg = self.config
        x = _look_up(_table(self, "token_embedding", cfg.text_vocab_size), ids)
        places = jnp.arange(ids.shape[1])
        x += _look_up(_table(self, "position_embedding", cfg.text_len), places)
        x = LayerNorm(name="embedding_norm")(x).astype(cfg.dtype)
        layer = _EncoderLayer(cfg, parent=None)
        layers = Stack(layer, cfg.depth, cfg.remat, name="layers")
        x, _ = layers(x, None, mask)
        return LayerNorm(cfg.all_scales, name="final_norm")(x)


class Decoder(nn.Module):
    """Codes [b, u] and a text, encoded [b, t, d] or cached -> (logits, cache)."""

    config: EncoderDecoderConfig

    @nn.compact
    def __call__(self, codes, positions, text, visible, cache=None, place=None):
        """positions: None counts from the start. text: None for that of the cache."""
        cfg = self.config
        x = _look_up(_table(self, "token_embedding", cfg.vocab_size), codes)
        if positions is None:
            positions = jnp.arange(codes.shape[1])
        # The last code has no position: nothing is sampled behind it.
        positions = jnp.minimum(positions, cfg.image_len - 1)
        x += _look_up(_table(self, "position_embedding", cfg.image_len), positions)
        x = LayerNorm(name="embedding_norm")(x).astype(cfg.dtype)  # [b, u, d]
        layer = _DecoderLayer(cfg, parent=None)
        layers = Stack(layer, cfg.depth, cfg.remat, name="layers")
        x, cache = layers(x, cache, text, visible, place)
        x = LayerNorm(cfg.all_scales, name="final_norm")(x)
        x = constrain(x, "batch", None, None)
        # `scoring` leaves the rows of the ids that compete.
        head = self.get_variable("params", "head")
        head = _table(self, "head", cfg.vocab_size) if head is None else head
        if isinstance(head, matmul.Packed):
            return matmul.product(x, head).astype(jnp.float32), cache
        logits = jnp.einsum("btd,vd->btv", x, head.astype(x.dtype))
        return constrain(logits.astype(jnp.float32), "batch", None, "vocab"), cache


class _EncoderLayer(nn.Module):
    config: EncoderDecoderConfig

    @nn.compact
    def __call__(self, x: Array, _: None, mask: Array) -> tuple[Array, None]:
        cfg = self.config
        x = constrain(x, *RESIDUAL)
        h = LayerNorm(cfg.all_scales, name="pre_attn_norm")(x)
        qkv = _heads(cfg, "qkv", 3)(h)  # [b, t, 3, n, h]
        h = attention(*(qkv[:, :, i] for i in range(3)), mask[:, None], alpha=1)
        h = _dense(cfg, (cfg.width,), "attn_out", 2)(h)
        x += LayerNorm(name="post_attn_norm")(h)
        return x + _GatedMLP(cfg, name="mlp")(x), None


class _DecoderLayer(nn.Module):
    config: EncoderDecoderConfig

    @nn.compact
    def __call__(self, x, cache, text, visible, place):
        """As of `Decoder`: without `place` the codes are whole, or the start."""
        cfg = self.config
        x = constrain(x, *RESIDUAL)
        h = LayerNorm(cfg.all_scales, name="pre_attn_norm")(x)
        h, own = self._attend(h, None if cache is None else cache.own, place)
        h = _dense(cfg, (cfg.width,), "attn_out", 2)(h)
        x += LayerNorm(name="post_attn_norm")(h)
        h = LayerNorm(cfg.all_scales, name="pre_cross_norm")(x)
        query = _heads(cfg, "cross_query")(h)  # [b, u, n, h]
        key, value = self._read(text, cache)
        h = cross_attention(query, key, value, visible)
        h = _dense(cfg, (cfg.width,), "cross_out", 2)(h)
        x += LayerNorm(name="post_cross_norm")(h)
        x += _GatedMLP(cfg, name="mlp")(x)
        return x, None if cache is None else LayerCache(own, key, value)

    def _attend(self, h: Array, cache: Cache | None, place: Array | None):
        """Attention of the codes to those before them: ([b, u, n, h], cache)."""
        together = _heads(self.config, "qkv", 3)(h)  # [b, u, 3, n, h]
        qkv = tuple(together[:, :, i] for i in range(3))
        if place is None:
            cache = None if cache is None else insert_prefix(cache, *qkv[1:])
            kernel = choose("auto", h.dtype, causal=True)
            attend = partial(causal_attention, alpha=1, implementation=kernel)
            attend = over_heads(attend) if kernel == "splash" else attend
            return attend(*qkv), cache
        start = jnp.ones((len(cache.prefix_key), 1), bool)
        return cached_attention(*qkv, cache, place, prefix_visible=start, alpha=1)

    def _read(self, text: Array | None, cache: LayerCache | None):
        """Keys [p, n, h, t] and values [p, n, t, h] of the text."""
        if text is None:
            return cache.key, cache.value
        both = _heads(self.config, "cross_key_value", 2)(text)  # [p, t, 2, n, h]
        return both[:, :, 0].transpose(0, 2, 3, 1), both[:, :, 1].swapaxes(1, 2)


class _GatedMLP(nn.Module):
    """The branch of x [b, t, d]."""

    config: EncoderDecoderConfig

    @nn.compact
    def __call__(self, x: Array) -> Array:
        cfg = self.config
        h = LayerNorm(cfg.all_scales, name="norm")(x)
        h = _dense(cfg, (2, cfg.mlp_dim), "mlp_in")(h)  # [b, t, 2, m]
        h = nn.gelu(h[:, :, 0], approximate=False) * h[:, :, 1]
        h = LayerNorm(cfg.all_scales, name="inner_norm")(h)
        return _dense(cfg, (cfg.width,), "mlp_out")(h)


def _dense(
    config: EncoderDecoderConfig,
    features: tuple[int, ...],
    name: str,
    num_axes: int = 1,
) -> Dense:
    dtype = jnp.dtype(config.dtype)
    return Dense(features, _STD, num_axes, dtype, use_bias=False, name=name)


def _heads(config: EncoderDecoderConfig, name: str, count: int = 0) -> Dense:
    """A product with so many results of all heads, 0 is one without an axis."""
    heads = config.heads, config.head_dim
    return _dense(config, (count, *heads) if count else heads, name)


def _table(module: nn.Module, name: str, size: int) -> Array | matmul.Packed:
    table = module.get_variable("params", name)
    if isinstance(table, matmul.Packed):
        return table
    init = nn.initializers.normal(_STD)
    return weight(module, name, init, (size, module.config.width))


def _look_up(table: Array | matmul.Packed, ids: Array) -> Array:
    """Rows of a table: int [...] -> float32 [..., d]."""
    if isinstance(table, matmul.Packed):
        return table[ids].astype(jnp.float32)
    # Rows are looked up whole: a table that is split over its width is gathered first.
    return constrain(table, None, None)[ids]


def param_shapes(config: EncoderDecoderConfig) -> Any:
    """Nested shapes and dtypes of the parameters, without computing any."""
    ids, mask = jnp.zeros((1, 1), jnp.int32), jnp.ones((1, 1), bool)
    codes = jnp.zeros((1, 0), jnp.int32)
    init = EncoderDecoder(config).init
    key = jax.random.key(0)
    return jax.eval_shape(
        lambda *inputs: init(key, *inputs, method="score"), ids, mask, codes
    )["params"]
