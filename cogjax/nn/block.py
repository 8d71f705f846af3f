"""The sandwich-LN transformer block (CogView section 2.4).

    a = post_attn_norm(Attn(pre_attn_norm(x)));   h = x + a
    m = post_mlp_norm(MLP(pre_mlp_norm(h)));      out = h + m

The norm at the end of each residual branch bounds what the branch adds.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from cogjax.nn.attention import self_attention, watched_weights
from cogjax.nn.decoder_config import DecoderConfig
from cogjax.nn.layers import Dense, RelaxedNorm, RMSNorm
from cogjax.ops.cache import Cache, insert_prefix
from cogjax.ops.gradient_scale import scale_gradient, unscale_gradient
from cogjax.ops.masks import FULL, LayerKind
from cogjax.ops.pivot_attention import Window, three_region_attention
from cogjax.ops.rotary import rotate
from cogjax.ops.sequence import Sequence
from cogjax.ops.sparse_attention import cached_attention
from cogjax.parallel.axes import constrain

# Between the branches, where only norms and sums work: positions are split too.
RESIDUAL = ("batch", "sequence", None)


class LayerInput(NamedTuple):
    """What one layer receives besides the activations; None where unused.

    scales: float32 [2], of the gradients of the attention and the MLP branch, for
    float32 activations (`ops/gradient_scale.py`). watched: int [w], positions of a
    whole sequence whose attention weights [b, n, w, t] are returned instead of a cache.
    """

    cache: Cache | None = None
    dropout_key: Array | None = None
    pivots: Array | None = None
    scales: Array | None = None
    watched: Array | None = None


class Block(nn.Module):
    """One layer: [b, t, d] -> [b, t, d].

    config: the network's. Its `sandwich` False drops the two norms after the branches
    (plain pre-LN); the two output projections start smaller by sqrt(2 * depth), as in
    CogView. `norm` "rms", `mlp` "swiglu" and no biases are Llama's. sequence: who sees
    whom, of as many positions as there may be; kind: which image keys an image query of
    this layer sees.
    """

    config: DecoderConfig
    mlp_dim: int
    sequence: Sequence
    kind: LayerKind = FULL

    @nn.compact
    def __call__(
        self,
        x: Array,
        layer: LayerInput,
        visible: Array | None,
        place: Array | None,
        rotation: Array | None = None,
    ) -> tuple[Array, Cache | None]:
        """Returns (x, updated cache, or the weights of what is watched).

        With a cache the inputs are first its prefixes, `place` None; then the positions
        from `place` on of what continues them.
        visible: bool [b, v] of the first v inputs, False for padding, which no other
        position sees, None if there is none; with `place` bool [p, t] of the prefixes.
        rotation: of queries and keys, `ops/rotary.py`, [b, t, h / 2, 2] of the inputs.
        """
        cfg, keys = self.config, (None,) * 3
        if layer.dropout_key is not None:
            keys = jax.random.split(layer.dropout_key, 3)
        attn_scale, mlp_scale = (None,) * 2 if layer.scales is None else layer.scales
        x = constrain(x, *RESIDUAL)
        h = self._norm("pre_attn_norm")(_enter(x, attn_scale))  # [b, t, d]
        h = constrain(h, "batch", None, None)
        h, cache = self._attend(h, layer, visible, place, rotation)
        h = self._drop(constrain(h, *RESIDUAL), keys[0])
        h = self._norm("post_attn_norm")(h) if cfg.sandwich else h
        x = x + _leave(h, attn_scale)
        h = self._norm("pre_mlp_norm")(_enter(x, mlp_scale))
        h = self._mlp(constrain(h, "batch", None, None))
        h = self._drop(constrain(h, *RESIDUAL), keys[1])
        h = self._norm("post_mlp_norm")(h) if cfg.sandwich else h
        return x + _leave(h, mlp_scale), cache

    def _mlp(self, x: Array) -> Array:
        """[b, t, d] -> [b, t, d]."""
        form = self.config.mlp
        h = self._dense((self.mlp_dim,), 0.02, "mlp_in")(x)
        if form == "swiglu":
            h = h * nn.silu(self._dense((self.mlp_dim,), 0.02, "mlp_gate")(x))
        else:
            h = nn.gelu(h, approximate=form == "gelu")
        h = constrain(h, "batch", None, "mlp")  # [b, t, mlp_dim]
        return self._dense(x.shape[-1:], self._out_std, "mlp_out")(h)

    def _attend(self, h, layer, visible, place, rotation):
        cfg = self.config
        qkv = self._dense((3, cfg.heads, cfg.head_dim), 0.02, "qkv")(h)
        qkv = constrain(qkv, "batch", None, None, "heads", None)  # [b, t, 3, n, h]
        qkv, cache = (qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]), layer.cache
        if rotation is not None:
            qkv = *(rotate(x, rotation) for x in qkv[:2]), qkv[2]
        if place is not None:
            out, cache = cached_attention(
                *qkv, cache, place, prefix_visible=visible, alpha=cfg.alpha
            )
        else:
            out = self._mix(qkv, layer.pivots, visible)
            cache = None if cache is None else insert_prefix(cache, *qkv[1:])
            if layer.watched is not None and not self.is_initializing():
                cache = self._watch(qkv, visible, layer.watched)
        out = constrain(out, "batch", None, "heads", None)  # [b, t, n, h]
        return self._dense((h.shape[-1],), self._out_std, "attn_out", 2)(out), cache

    def _mix(self, qkv, pivots: Array | None, visible: Array | None) -> Array:
        """Attention of whole sequences or prefixes: three [b, t, n, h] -> one."""
        cfg = self.config
        if self.is_initializing():
            # Only shapes matter, of a few tokens that need not be a sequence.
            return qkv[0]
        if pivots is not None:
            size, times = cfg.window, cfg.window_times
            window = Window.of(size, times, self.sequence.length, cfg.num_pivots)
            return three_region_attention(*qkv, pivots, window, cfg.alpha)
        sequence = self.sequence.first(qkv[0].shape[1])
        return self_attention(*qkv, cfg, sequence, self.kind, visible)

    def _watch(self, qkv, visible: Array | None, watched: Array) -> Array:
        sequence = self.sequence.first(qkv[0].shape[1])
        seen = sequence, self.kind, visible
        return watched_weights(*qkv[:2], self.config, *seen, watched)

    @property
    def _out_std(self) -> float:
        return 0.02 / (2 * self.config.depth) ** 0.5

    def _norm(self, name: str) -> nn.Module:
        return norm_of(self.config, name)

    def _dense(self, features: tuple[int, ...], std: float, name: str, num_axes=1):
        dtype = jnp.dtype(self.config.dtype)
        return Dense(features, std, num_axes, dtype, self.config.use_bias, name=name)

    def _drop(self, x: Array, key: Array | None) -> Array:
        if key is None or self.config.dropout == 0:
            return x
        return nn.Dropout(self.config.dropout, deterministic=False)(x, rng=key)


def norm_of(config: DecoderConfig, name: str) -> nn.Module:
    """The norm that a config asks for."""
    if config.norm == "rms":
        return RMSNorm(config.norm_epsilon, name=name)
    return RelaxedNorm(config.norm_scope, config.norm_epsilon, name=name)


def _enter(x: Array, scale: Array | None) -> Array:
    return x if scale is None else unscale_gradient(x, scale)


def _leave(h: Array, scale: Array | None) -> Array:
    return h if scale is None else scale_gradient(h.astype(jnp.float32), scale)


def branch_of(name: str) -> int:
    """Which branch the parameters of that name are in: 0 attention, 1 MLP."""
    return int("mlp" in name)
