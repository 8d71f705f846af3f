"""BERT's encoder, as MiniLM is one (Devlin et al. 2018; Wang et al. 2020, 2002.10957).

    x = LayerNorm(token_embedding[ids] + position_embedding + segment_embedding[0])
    x = LayerNorm(x + Attn(x));  x = LayerNorm(x + MLP(x))     a layer

The MLP has GELU by the error function. Texts are one segment.
"""

from dataclasses import dataclass
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from cogjax.config import check_ranges
from cogjax.nn.layers import Dense, RelaxedNorm, weight
from cogjax.nn.stack import Stack
from cogjax.ops.attention import attention


@dataclass(frozen=True)
class BertConfig:
    """Sizes; the defaults are those of all-MiniLM-L6-v2.

    depth: 0 has the embeddings alone. text_len: a text is cut to so many ids, the
    marks before and behind it among them. dtype: of the activations.
    """

    width: int = 384
    depth: int = 6
    heads: int = 12
    mlp_dim: int = 1536
    vocab_size: int = 30522
    max_positions: int = 512
    text_len: int = 256
    dtype: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self):
        sizes = ("width", "heads", "mlp_dim", "vocab_size", "max_positions")
        check_ranges(self, **dict.fromkeys(sizes, (1, 2**24)), depth=(0, 1024))
        check_ranges(self, text_len=(3, self.max_positions))
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is no multiple of heads {self.heads}")


class BertEncoder(nn.Module):
    """ids int [b, n] -> tokens [b, n, d]; `mask` bool [b, n], False for padding."""

    config: BertConfig

    @nn.compact
    def __call__(self, ids: Array, mask: Array) -> Array:
        cfg, normal = self.config, nn.initializers.normal(0.02)
        rows = {"token": cfg.vocab_size, "position": cfg.max_positions, "segment": 2}
        token, position, segment = (
            weight(self, f"{name}_embedding", normal, (count, cfg.width))
            for name, count in rows.items()
        )
        x = token[ids] + position[: ids.shape[1]] + segment[0]
        x = _norm("norm")(x).astype(cfg.dtype)
        if cfg.depth:
            layers = Stack(_Layer(cfg, parent=None), cfg.depth, name="layers")
            x, _ = layers(x, None, mask[:, None])
        return x


class _Layer(nn.Module):
    config: BertConfig

    @nn.compact
    def __call__(self, x: Array, _: None, mask: Array):
        cfg = self.config
        heads = cfg.heads, cfg.width // cfg.heads
        query, key, value = (
            _dense(cfg, heads, name)(x) for name in ("query", "key", "value")
        )
        attended = attention(query, key, value, mask, alpha=1.0)  # [b, t, n, h]
        attended = _dense(cfg, (cfg.width,), "attn_out", 2)(attended)
        x = _norm("attn_norm")(x + attended).astype(cfg.dtype)
        h = nn.gelu(_dense(cfg, (cfg.mlp_dim,), "mlp_in")(x), approximate=False)
        h = _dense(cfg, (cfg.width,), "mlp_out")(h)
        return _norm("mlp_norm")(x + h).astype(cfg.dtype), None


def _dense(config: BertConfig, features: tuple[int, ...], name: str, num_axes: int = 1):
    return Dense(features, 0.02, num_axes, jnp.dtype(config.dtype), name=name)


def _norm(name: str) -> RelaxedNorm:
    return RelaxedNorm(norm_scope="none", epsilon=1e-12, name=name)


def param_shapes(config: BertConfig) -> Any:
    """Nested shapes and dtypes of the parameters, without computing any."""
    ids, mask = jnp.zeros((1, 2), jnp.int32), jnp.ones((1, 2), bool)
    init = BertEncoder(config).init
    return jax.eval_shape(init, jax.random.key(0), ids, mask)["params"]
