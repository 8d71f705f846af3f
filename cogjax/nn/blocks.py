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

from cogjax.nn.layers import RelaxedNorm
from cogjax.ops.attention import attention
from cogjax.ops.cache import Cache, SparseCache, cache_plan, insert
from cogjax.ops.masks import Pattern
from cogjax.ops.matmul import dot_general
from cogjax.ops.sparse_attention import cached_attention, sparse_attention


class LayerInput(NamedTuple):
    """What one layer receives besides the activations; None where unused."""

    cache: Cache | SparseCache | None = None
    dropout_key: Array | None = None


class Block(nn.Module):
    """One layer: [b, t, d] -> [b, t, d].

    sandwich: False drops the two norms after the branches (plain pre-LN).
    init_depth: number of layers; the two output projections start smaller by
    sqrt(2 * init_depth), as in CogView.
    kind: image keys that an image query sees, in a sequence of `num_text` positions and
    an image; None is full attention under the mask.
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

    @nn.compact
    def __call__(
        self, x: Array, layer: LayerInput, mask: Array, slot: Array | None
    ) -> tuple[Array, Cache | None]:
        """Returns (x, updated cache).

        mask: bool [b, t, s]. slot: first cache slot to write, None without a cache.
        The keys are the `s` slots of a `Cache`, the text of a `SparseCache` (the kind
        masks its image), otherwise the `t` inputs (only text, if there is a kind).
        """
        keys = (None,) * 3
        if layer.dropout_key is not None:
            keys = jax.random.split(layer.dropout_key, 3)
        h = self._norm("pre_attn_norm")(x)
        h, cache = self._attend(h, layer.cache, mask, slot)
        h = self._drop(h, keys[0])
        x = x + (self._norm("post_attn_norm")(h) if self.sandwich else h)
        h = self._norm("pre_mlp_norm")(x)
        h = self._dense(self.mlp_dim, 0.02, "mlp_in")(h)
        h = self._dense(x.shape[-1], self._out_std, "mlp_out")(nn.gelu(h))
        h = self._drop(h, keys[1])
        return x + (self._norm("post_mlp_norm")(h) if self.sandwich else h), cache

    def _attend(self, h, cache, mask, slot):
        qkv = self._dense((3, self.heads, self.head_dim), 0.02, "qkv")(h)
        query, key, value = qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]
        out, cache = self._mix(query, key, value, cache, mask, slot)
        out = nn.DenseGeneral(
            h.shape[-1],
            axis=(-2, -1),
            dtype=self.dtype,
            kernel_init=nn.initializers.normal(self._out_std),
            dot_general=dot_general,
            name="attn_out",
        )(out)
        return out, cache

    def _mix(self, query, key, value, cache, mask, slot):
        """Attention and the updated cache; which form follows from kind and cache."""
        if isinstance(cache, SparseCache):
            return self._cached(query, key, value, cache, mask, slot)
        full = self.kind is None or self.kind.kind == "full"
        if cache is not None:
            if not full:
                raise ValueError(f"kind {self.kind} needs a SparseCache")
            cache = insert(cache, key, value, slot)
            key, value = cache.key.astype(key.dtype), cache.value.astype(key.dtype)
        # Parameters are shaped on a few tokens, which are not text and an image.
        if full or self.is_initializing():
            out = attention(query, key, value, mask, alpha=self.alpha)
        else:
            out = sparse_attention(
                query, key, value, self.kind, self.num_text, alpha=self.alpha
            )
        return out, cache

    def _cached(self, query, key, value, cache, mask, slot):
        """All text in one call, then the image one position a call."""
        if query.shape[1] > 1:
            text = insert(cache.text, key, value, 0)
            out = attention(query, key, value, mask, alpha=self.alpha)
            return out, cache._replace(text=text)
        position = slot - self.num_text
        place = jnp.asarray(cache_plan(self.kind).slot)[position]
        cache = cache._replace(image=insert(cache.image, key, value, place))
        out = cached_attention(
            query, cache, self.kind, position, text_visible=mask[:, 0], alpha=self.alpha
        )
        return out, cache

    @property
    def _out_std(self) -> float:
        return 0.02 / (2 * self.init_depth) ** 0.5

    def _norm(self, name: str) -> RelaxedNorm:
        return RelaxedNorm(norm_scope=self.norm_scope, name=name)

    def _dense(self, features, std: float, name: str) -> nn.DenseGeneral:
        init = nn.initializers.normal(std)
        return nn.DenseGeneral(
            features,
            dtype=self.dtype,
            kernel_init=init,
            dot_general=dot_general,
            name=name,
        )

    def _drop(self, x: Array, key: Array | None) -> Array:
        if key is None or self.dropout == 0:
            return x
        return nn.Dropout(self.dropout, deterministic=False)(x, rng=key)
