"""CogView's transformer: one causal decoder over text, command and image tokens.

    x = shrink_gradient(token_embedding[ids] + position_embedding[positions])
    x = Block(x) * depth          sandwich-LN blocks, PB-Relax attention
    logits = final_norm(x) @ token_embedding^T      tied, no bias

CogView section 2.3 and its release. Deviations, all by config: `norm_scope` is "token"
by default ("tensor" is the release), `embedding_gradient` is in the paper only, and
attention probabilities are not dropped out. ERNIE-ViLG's text sees all of itself where
it is the source (`config.sequence`), and its codes have rows and columns.

By config it is other decoders too: LlamaGen's turns queries and keys instead of adding
positions, and it and minDALL-E have a head of their own.
"""

import functools
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from cogjax.models.image_lm_config import ImageLMConfig
from cogjax.models.windows import windowed
from cogjax.nn.block import Block, LayerInput, branch_of, norm_of
from cogjax.nn.layers import Dense, kernel_axes, weight
from cogjax.nn.stack import Stack
from cogjax.ops import packed as matmul
from cogjax.ops.cache import Cache
from cogjax.ops.gradient_scale import scale_gradient
from cogjax.ops.precision import shrink_gradient
from cogjax.ops.rotary import grid_rotation
from cogjax.parallel.axes import constrain

# Which axes of the stacked [l, ...] kernels are inputs and which are outputs.
MATRIX_AXES = {
    "qkv": ((1,), (2, 3, 4)),
    "attn_out": ((1, 2), (3,)),
    "mlp_gate": ((1,), (2,)),
    "mlp_in": ((1,), (2,)),
    "mlp_out": ((1,), (2,)),
}
matrix_axes = functools.partial(kernel_axes, MATRIX_AXES)

# Names of the last axes of each parameter, by its path (see `parallel/axes.py`).
PARAM_AXES = (
    ("qkv/kernel", ("embed", None, "heads", None)),
    ("qkv/bias", (None, "heads", None)),
    ("attn_out/kernel", ("heads", None, "embed")),
    ("mlp_(in|gate)/kernel", ("embed", "mlp")),
    ("mlp_in/bias", ("mlp",)),
    ("mlp_out/kernel", ("mlp", "embed")),
    ("(token_embedding|head)", ("vocab", "embed")),
    ("(position|row|column)_embedding", (None, "embed")),
)


Part = tuple[slice, slice | None]
Inputs = Array | tuple[Array, ...]
LAST: tuple[Part, ...] = ((slice(-1, None), slice(None)),)


class Training(NamedTuple):
    """Further inputs of a pass over whole sequences; None where unused.

    key: of dropout. pivots: int [l, b, k] of `random_codes`: the codes of each image
    that are pivots of a layer, where it has a window. scales: float32 [l, 2], of the
    gradients of each layer's branches; those of the parameters are then scaled too, see
    `unscale_blocks`. watched: int [w], positions whose attention weights are returned
    in the place of a cache, one array [l, b, n, w, t], or a list of [b, n, w, t] of
    parameters that are a list.
    """

    key: Array | None = None
    pivots: Array | None = None
    scales: Array | None = None
    watched: Array | None = None


EVALUATION = Training()


class ImageLM(nn.Module):
    """ids [b, t] -> logits [b, t, v]; the same code trains, prefills and decodes."""

    config: ImageLMConfig

    @nn.compact
    def __call__(
        self,
        ids: Inputs,
        positions: Array,
        visible: Array | None = None,
        cache: list[Cache] | None = None,
        place: Array | int | None = None,
        training: Training = EVALUATION,
        parts: tuple[Part, ...] = (),
    ) -> tuple[Array | list[Array], list[Cache] | None]:
        """Runs the decoder: inputs are the first t positions of `config.sequence`.

        Args:
          ids, positions: int [b, t]. A text is float [b, t, f] where the network has a
            `caption_dim` f. A tuple of such arrays is one sequence.
          visible: bool [b, v] of the first v inputs, False for padding, which no other
            position sees; None is none. With `place` of the prefixes, bool [p, t].
          cache: of `make_cache`; the inputs are its prefixes, or with `place` what
            continues them from that position on.
          training: further inputs of a pass over whole sequences.
          parts: static (positions, ids): compute only these logits, a list of arrays.
            Without ids it returns the states that logits are made of, [b, t, d]: the
            output of the last layer for the token that follows each position.

        Returns:
          (logits [b, t, v] in float32, updated cache or None).
        """
        cfg, key, moved, pivots = self.config, training.key, None, None
        if cfg.window and place is None and not self.is_initializing():
            whole = jnp.concatenate(ids, axis=1) if isinstance(ids, tuple) else ids
            moved = windowed(cfg, whole, positions, visible, training.pivots)
            ids, positions, pivots, _ = moved
            cache = None if cache is None else moved.caches(cache)
        x = self._embed(ids, positions)  # [b, t, d]
        layer_keys = None
        if key is not None and cfg.dropout > 0:
            embed_key, stack_key = jax.random.split(key)
            x = nn.Dropout(cfg.dropout, deterministic=False)(x, rng=embed_key)
            layer_keys = jax.random.split(stack_key, cfg.depth)  # [l]
        block = Block(cfg, cfg.mlp_dim, cfg.sequence, parent=None)
        stack = Stack(
            block, cfg.depth, cfg.remat, cfg.unroll, cfg.layer_kinds, name="blocks"
        )
        layers = self._of_layers(
            training._replace(key=layer_keys, pivots=pivots), cache
        )
        x, cache = stack(x, layers, visible, place, self._rotation(positions))
        x = x if moved is None else moved.back(x)
        x = norm_of(cfg, "final_norm")(x)
        x = norm_of(cfg, "head_norm")(x) if cfg.normed_head else x
        x = constrain(x, "batch", None, None)
        head = self._head()
        if parts:
            return [self._part(x[:, at], head, ids) for at, ids in parts], cache
        return self._part(x, head, slice(None)), cache

    def _of_layers(
        self, training: Training, cache: list[Cache] | None
    ) -> LayerInput | list[LayerInput]:
        """What layers receive, of all or in a list; key, pivots: of each, [l, ...]."""
        depth, (key, pivots, scales, watched) = self.config.depth, training
        if cache is not None:
            # Caches differ in shape by kind: a list, and no scan.
            own = [None] * depth if pivots is None else pivots
            each = zip(cache, own, strict=True)
            return [LayerInput(layer, pivots=some) for layer, some in each]
        if watched is not None:
            watched = jnp.broadcast_to(watched, (depth, *watched.shape))
        return LayerInput(None, key, pivots, scales, watched)

    def _embed(self, ids: Inputs, positions: Array) -> Array:
        """What the first layer reads: [b, t, d]."""
        cfg = self.config
        dtype = jnp.float32 if cfg.gradient_scale == "resblock" else cfg.dtype
        table = self._table("token_embedding", cfg.vocab_size)
        if cfg.caption_dim and self.is_initializing():
            self._captions()
        found = [
            _look_up(table, part, "vocab")
            if jnp.issubdtype(part.dtype, jnp.integer)
            else self._caption(part)
            for part in (ids if isinstance(ids, tuple) else (ids,))
        ]
        x = found[0] if len(found) == 1 else jnp.concatenate(found, axis=1)
        x = x if cfg.rotary else x + self._places(positions)
        x = constrain(x, "batch", "sequence", None)
        return shrink_gradient(x.astype(dtype), cfg.embedding_gradient)

    def _captions(self) -> None:
        """Makes the parameters of captions, of which no ids make use."""
        shape = self.config.table_positions, self.config.caption_dim
        weight(self, "null_caption", nn.initializers.normal(shape[1] ** -0.5), shape)
        self._caption(jnp.zeros((1, *shape)))

    def _caption(self, vectors: Array) -> Array:
        """Vectors of a caption [b, t, f] -> [b, t, d]."""
        width, dtype = (self.config.width,), jnp.dtype(self.config.dtype)
        h = Dense(width, 0.02, 1, dtype, False, name="caption_in")(vectors)
        return Dense(width, 0.02, 1, dtype, False, name="caption_out")(nn.gelu(h))

    def _rotation(self, positions: Array) -> Array | None:
        """Rotation of queries and keys, float32 [b, t, h / 2, 2]."""
        cfg = self.config
        if not cfg.rotary:
            return None
        sizes = cfg.table_positions, cfg.image_grid, cfg.head_dim, cfg.rotary
        return grid_rotation(positions, *sizes)

    def _head(self) -> Array | matmul.Packed:
        """Rows of the ids that compete: of `scoring`, of a head, or of the table."""
        found = self.get_variable("params", "head")
        if found is not None:
            return found
        if self.config.outputs:
            return self._table("head", self.config.outputs)
        return self._table("token_embedding", self.config.vocab_size)

    def _part(self, x: Array, head: Array | matmul.Packed, ids: slice | None) -> Array:
        """Logits of some ids, or the states themselves."""
        if ids is None:
            return x
        logits = _score(x, head[ids])
        if not self.config.normed_head:
            return logits
        bias = self.get_variable("params", "head_bias")
        if bias is None:
            shape = (self.config.outputs,)
            bias = weight(self, "head_bias", nn.initializers.zeros, shape)
        return logits + bias[ids]

    def _places(self, positions: Array) -> Array:
        """Embedding of positions: int [...] -> [..., d]."""
        cfg = self.config
        count = cfg.table_positions
        text = self._table("position_embedding", count)
        if not cfg.grid:
            return _look_up(text, positions, None)
        num_rows, num_columns = cfg.image_grid
        rows = self._table("row_embedding", num_rows)
        columns = self._table("column_embedding", num_columns)
        last = num_rows * num_columns - 1
        code = jnp.clip(positions - count, 0, last)  # place in the image
        image = _look_up(rows, code // num_columns, None)
        image += _look_up(columns, code % num_columns, None)
        own = _look_up(text, jnp.minimum(positions, count - 1), None)
        return jnp.where((positions < count)[..., None], own, image)  # [..., d]

    def _table(self, name: str, size: int) -> Array | matmul.Packed:
        table = self.get_variable("params", name)
        if isinstance(table, matmul.Packed):
            return table
        init = nn.initializers.normal(0.02)
        return weight(self, name, init, (size, self.config.width))


def _look_up(table: Array | matmul.Packed, ids: Array, axis: str | None) -> Array:
    """Rows of a table, their axis so named: int [...] -> [..., d]."""
    if isinstance(table, matmul.Packed):
        return table[ids].astype(jnp.float32)
    # Rows are looked up whole: a table that is split over its width is gathered first.
    return constrain(table, axis, None)[ids]


def _score(x: Array, table: Array | matmul.Packed) -> Array:
    """x [b, t, d] -> logits float32 [b, t, v]."""
    if isinstance(table, matmul.Packed):
        return matmul.product(x, table).astype(jnp.float32)
    logits = matmul.scores(x, table.astype(x.dtype))
    return constrain(logits.astype(jnp.float32), "batch", None, "vocab")


def unscale_blocks(params: Any, scales: Array) -> Any:
    """The same parameters; their gradients in the blocks are divided by `scales`.

    scales: float32 [l, 2] of `ImageLM`, which multiplies by them.
    """

    def unscale(path, leaf):
        factor = 1 / scales[:, branch_of(path[0].key)]  # [l]
        return scale_gradient(leaf, factor.reshape(-1, *(1,) * (leaf.ndim - 1)))

    layers = jax.tree_util.tree_map_with_path(unscale, params["blocks"]["layers"])
    return {**params, "blocks": {**params["blocks"], "layers": layers}}


def finite_branches(grads: Any) -> Array:
    """bool [l, 2]: whether all gradients of each branch's parameters are finite."""
    layers = grads["blocks"]["layers"]

    def all_finite(branch):
        parts = [part for name, part in layers.items() if branch_of(name) == branch]
        leaves = [
            leaf.reshape(len(leaf), -1) for leaf in jax.tree.leaves(parts)
        ]  # [l, ...]
        return jnp.all(jnp.stack([jnp.isfinite(x).all(1) for x in leaves]), axis=0)

    return jnp.stack([all_finite(0), all_finite(1)], axis=1)


def param_shapes(config: ImageLMConfig) -> Any:
    """Nested shapes and dtypes of the parameters, without computing any."""
    ids = jnp.zeros((1, 2), jnp.int32)
    return jax.eval_shape(ImageLM(config).init, jax.random.key(0), ids, ids)["params"]
