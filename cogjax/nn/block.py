"""The sandwich-LN transformer block (CogView section 2.4).

    a = post_attn_norm(Attn(pre_attn_norm(x)));   h = x + a
    m = post_mlp_norm(MLP(pre_mlp_norm(h)));      out = h + m

The norm at the end of each residual branch bounds what the branch adds.
"""

from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from cogjax.nn.layers import Dense, RelaxedNorm
from cogjax.ops.attention import attention, causal_attention
from cogjax.ops.cache import Cache, insert_prefix, plan_of
from cogjax.ops.fused_attention import Implementation, choose
from cogjax.ops.gradient_scale import scale_gradient, unscale_gradient
from cogjax.ops.masks import Pattern, text_to_image_mask
from cogjax.ops.pivot_attention import three_region_attention
from cogjax.ops.sparse_attention import cached_attention, sparse_attention
from cogjax.parallel.axes import constrain, over_heads

# Between the branches, where only norms and sums work: positions are split too.
RESIDUAL = ("batch", "sequence", None)


class LayerInput(NamedTuple):
    """What one layer receives besides the activations; None where unused.

    scales: float32 [2], of the gradients of the attention and the MLP branch, for
    float32 activations (`ops/gradient_scale.py`).
    """

    cache: Cache | None = None
    dropout_key: Array | None = None
    pivots: Array | None = None
    scales: Array | None = None


class Block(nn.Module):
    """One layer: [b, t, d] -> [b, t, d].

    sandwich: False drops the two norms after the branches (plain pre-LN).
    init_depth: number of layers; the two output projections start smaller by
    sqrt(2 * init_depth), as in CogView.
    kind: image keys that an image query sees, in a sequence of `num_text` positions and
    an image; None is full attention under the mask.
    implementation: of attention without a cache or mask, see `ops/fused_attention.py`.
    window, window_times: of attention with pivots, see `ops/pivot_attention.py`.
    image_first, text_causal, num_question, num_asked: of sequences with a kind, see
    `ops/sparse_attention.py`.
    """

    heads: int
    head_dim: int
    mlp_dim: int
    init_depth: int
    dropout: float = 0.0
    alpha: float = 32.0
    norm_scope: str = "token"
    sandwich: bool = True
    dtype: jnp.dtype = jnp.float32
    kind: Pattern | None = None
    num_text: int = 0
    implementation: Implementation = "auto"
    window: int = 0
    window_times: int = 1
    image_first: bool = False
    text_causal: bool = True
    num_question: int = 0
    num_asked: int = 1

    @nn.compact
    def __call__(
        self,
        x: Array,
        layer: LayerInput,
        mask: Array | None,
        place: Array | None,
        visible: Array | None = None,
    ) -> tuple[Array, Cache | None]:
        """Returns (x, updated cache).

        mask: bool [b, t, s] over the inputs; None is causal (a kind masks itself). With
        a cache the inputs are first its prefixes, `place` None; then the positions from
        `place` on of what continues them, and mask is [p, 1, t] over the prefixes.
        visible: bool [b, text positions], False for text that a kind hides.
        """
        keys = (None,) * 3
        if layer.dropout_key is not None:
            keys = jax.random.split(layer.dropout_key, 3)
        attn_scale, mlp_scale = (None,) * 2 if layer.scales is None else layer.scales
        x = constrain(x, *RESIDUAL)
        h = self._norm("pre_attn_norm")(_enter(x, attn_scale))
        h = constrain(h, "batch", None, None)
        h, cache = self._attend(h, layer, mask, place, visible)
        h = self._drop(constrain(h, *RESIDUAL), keys[0])
        h = self._norm("post_attn_norm")(h) if self.sandwich else h
        x = x + _leave(h, attn_scale)
        h = self._norm("pre_mlp_norm")(_enter(x, mlp_scale))
        h = self._dense((self.mlp_dim,), 0.02, "mlp_in")(
            constrain(h, "batch", None, None)
        )
        h = constrain(nn.gelu(h), "batch", None, "mlp")
        h = self._dense(x.shape[-1:], self._out_std, "mlp_out")(h)
        h = self._drop(constrain(h, *RESIDUAL), keys[1])
        h = self._norm("post_mlp_norm")(h) if self.sandwich else h
        return x + _leave(h, mlp_scale), cache

    def _attend(self, h, layer, mask, place, visible):
        qkv = self._dense((3, self.heads, self.head_dim), 0.02, "qkv")(h)
        qkv = constrain(qkv, "batch", None, None, "heads", None)
        query, key, value = qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]
        if place is not None:
            out, cache = cached_attention(
                query,
                key,
                value,
                layer.cache,
                plan_of(None if self.image_first else self.kind, layer.cache),
                place,
                prefix_visible=mask[:, 0],
                alpha=self.alpha,
            )
        else:
            out, cache = self._mix(query, key, value, layer, mask, visible)
        out = constrain(out, "batch", None, "heads", None)
        return self._dense((h.shape[-1],), self._out_std, "attn_out", 2)(out), cache

    def _mix(self, query, key, value, layer, mask, visible):
        """Attention of whole sequences or prefixes, and the cache of the latter."""
        cache = layer.cache
        full = self.kind is None or self.kind.kind == "full"
        # A prefix is all text, save where the image comes first. Parameters are shaped
        # on a few tokens, which are not text and an image.
        whole = (full or cache is not None) and not self.image_first
        whole = whole or self.is_initializing()
        if whole and mask is None and not self.is_initializing():
            mask = self._two_way_mask(query.shape[1], visible)
        if whole and mask is not None:
            out = attention(query, key, value, mask, alpha=self.alpha)
        elif layer.pivots is not None:
            out = three_region_attention(
                query,
                key,
                value,
                layer.pivots,
                window=self.window,
                times=self.window_times,
                alpha=self.alpha,
            )
        else:
            attend = self._self_attention(not whole, query.shape[1], visible)
            out = attend(query, key, value)
        return out, None if cache is None else insert_prefix(cache, key, value)

    def _two_way_mask(self, length: int, visible: Array | None) -> Array | None:
        """bool [1 or b, t, t] of a layer that sees all; None if it is only causal."""
        if self.kind is None or self.text_causal:
            return None
        mask = text_to_image_mask(self.kind, self.num_text, text_causal=False)
        mask = mask[:length, :length]
        if visible is None:
            return jnp.asarray(mask[None])
        rest = length - visible.shape[1]
        visible = jnp.pad(visible, ((0, 0), (0, rest)), constant_values=True)
        return (mask & visible[:, None]) | jnp.eye(length, dtype=bool)

    def _self_attention(self, sparse: bool, length: int, visible: Array | None):
        """Function of (query, key, value) of sequences that mask themselves."""
        # Parameters may be shaped on another machine than the one that computes.
        beyond = visible is not None or self.num_question > 0
        asked = self.implementation
        if self.is_initializing() or (beyond and asked == "auto"):
            asked = "xla"
        kernel = choose(asked, self.dtype, sparse=sparse)
        settings = {"alpha": self.alpha, "implementation": kernel}
        attend = partial(causal_attention, **settings)
        if sparse:
            num_text = self.num_text
            if self.image_first:
                num_text = length - self.kind.length
            attend = partial(
                sparse_attention,
                pattern=self.kind,
                num_text=num_text,
                image_first=self.image_first,
                text_causal=self.text_causal,
                num_question=self.num_question,
                num_asked=self.num_asked,
                text_visible=visible,
                **settings,
            )
        return over_heads(attend) if kernel == "splash" else attend

    @property
    def _out_std(self) -> float:
        return 0.02 / (2 * self.init_depth) ** 0.5

    def _norm(self, name: str) -> RelaxedNorm:
        return RelaxedNorm(norm_scope=self.norm_scope, name=name)

    def _dense(self, features: tuple[int, ...], std: float, name: str, num_axes=1):
        return Dense(features, std, num_axes, self.dtype, name=name)

    def _drop(self, x: Array, key: Array | None) -> Array:
        if key is None or self.dropout == 0:
            return x
        return nn.Dropout(self.dropout, deterministic=False)(x, rng=key)


def _enter(x: Array, scale: Array | None) -> Array:
    return x if scale is None else unscale_gradient(x, scale)


def _leave(h: Array, scale: Array | None) -> Array:
    return h if scale is None else scale_gradient(h.astype(jnp.float32), scale)


def branch_of(name: str) -> int:
    """Which branch the parameters of that name are in: 0 attention, 1 MLP."""
    return int("mlp" in name)
