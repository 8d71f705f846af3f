"""CogView's transformer: one causal decoder over text, command and image tokens.

    x = shrink_gradient(token_embedding[ids] + position_embedding[positions])
    x = Block(x) * depth          sandwich-LN blocks, PB-Relax attention
    logits = final_norm(x) @ token_embedding^T      tied, no bias

CogView section 2.3 and its release. Deviations, all by config: `norm_scope` is "token"
by default ("tensor" is the release), `embedding_gradient` is in the paper only, and
attention probabilities are not dropped out. ERNIE-ViLG's text sees all of itself where
it is the source (`text_causal`, `image_first`), and its codes have rows and columns.
"""

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from cogjax.nn.block import Block, LayerInput, branch_of
from cogjax.nn.layers import RelaxedNorm, weight
from cogjax.nn.stack import Stack
from cogjax.ops import packed as matmul
from cogjax.ops.cache import Cache, cache_plan, empty_cache
from cogjax.ops.fused_attention import Implementation
from cogjax.ops.gradient_scale import scale_gradient
from cogjax.ops.masks import Pattern, layer_kinds
from cogjax.ops.precision import shrink_gradient
from cogjax.parallel.axes import constrain

# Which axes of the stacked [l, ...] kernels are inputs and which are outputs.
MATRIX_AXES = {
    "qkv": ((1,), (2, 3, 4)),
    "attn_out": ((1, 2), (3,)),
    "mlp_in": ((1,), (2,)),
    "mlp_out": ((1,), (2,)),
}

# Names of the last axes of each parameter, by its path (see `parallel/axes.py`).
PARAM_AXES = (
    ("qkv/kernel", ("embed", None, "heads", None)),
    ("qkv/bias", (None, "heads", None)),
    ("attn_out/kernel", ("heads", None, "embed")),
    ("mlp_in/kernel", ("embed", "mlp")),
    ("mlp_in/bias", ("mlp",)),
    ("mlp_out/kernel", ("mlp", "embed")),
    ("token_embedding", ("vocab", "embed")),
    ("(position|row|column)_embedding", (None, "embed")),
)


@dataclass(frozen=True)
class DecoderConfig:
    """What the vocabulary does not decide; the defaults are the paper's 4B model.

    alpha: PB-Relax attention constant (1: off). norm_scope: see `ops/precision.py`.
    embedding_gradient: factor on the embedding's gradient (1: off; the paper uses
    0.1). dtype: of the activations; parameters are float32. gradient_scale: what keeps
    float16 gradients in range: "loss" is one factor on the loss, "resblock" DALL-E's on
    each residual branch, and float32 between them and in the head. remat, unroll: see
    `nn/stack.py`. implementation: of attention, see `ops/fused_attention.py`. window:
    above 0 training attends to `window_times` blocks of so many positions and to
    `num_pivots` others (`ops/pivot_attention.py`, for long sequences); scoring and
    sampling attend to all, as CogView's scripts do.
    """

    width: int = 2560
    depth: int = 48
    heads: int = 40
    dropout: float = 0.1
    alpha: float = 32.0
    norm_scope: Literal["token", "sample", "tensor", "none"] = "token"
    sandwich: bool = True
    embedding_gradient: float = 1.0
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    gradient_scale: Literal["loss", "resblock"] = "loss"
    remat: str = "none"
    unroll: int = 1
    implementation: Implementation = "auto"
    window: int = 0
    window_times: int = 6
    num_pivots: int = 768

    def __post_init__(self):
        for name, least in (("window", 0), ("window_times", 1), ("num_pivots", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}, at least {least}")
        if self.heads < 1 or self.width % self.heads:
            raise ValueError(f"width {self.width} is no multiple of heads {self.heads}")


@dataclass(frozen=True)
class ImageLMConfig(DecoderConfig):
    """Shape and numerics of the transformer.

    vocab_size: padded size of the unified vocabulary. max_positions: rows of the
    position table. patterns: one a layer, of an image after `num_text` positions; ()
    is full attention in all layers.
    grid: above 0 the `num_text` first positions are the text's, and the codes' have an
    embedding of their row and one of their column, of so many, in place of one each.
    text_causal, image_first, num_question, num_asked: with patterns, see
    `ops/sparse_attention.py`. They change no parameter: `reading` turns one direction
    into the other.
    """

    vocab_size: int = 58240
    mlp_dim: int = 10240
    max_positions: int = 1089
    patterns: tuple[Pattern, ...] = ()
    num_text: int = 0
    grid: int = 0
    text_causal: bool = True
    image_first: bool = False
    num_question: int = 0
    num_asked: int = 1

    def __post_init__(self):
        super().__post_init__()
        if not self.patterns and (self.image_first or not self.text_causal):
            raise ValueError("text that sees all text needs patterns, if only full")
        if self.num_question < 0 or (self.num_question and not self.image_first):
            raise ValueError(
                f"num_question is {self.num_question}: a question has 0 or more "
                "positions, behind an image"
            )
        if self.patterns and len(self.patterns) != self.depth:
            raise ValueError(f"{len(self.patterns)} patterns for {self.depth} layers")
        if self.window and self.patterns:
            raise ValueError("window is for layers without a pattern: set it to 0")
        if self.window and self.num_pivots > self.max_positions:
            raise ValueError(
                f"num_pivots is {self.num_pivots}, more than the {self.max_positions} "
                "positions of a sequence"
            )

    @property
    def head_dim(self) -> int:
        return self.width // self.heads


def sparse_config(
    config: DecoderConfig,
    grid: int,
    num_codes: int,
    text_len: int,
    num_text: int,
    row_extent: Literal["raster", "own"] = "raster",
) -> ImageLMConfig:
    """`text_len` positions of `num_text` ids, then `grid` x `grid` codes: DALL-E's way.

    Ids below `num_codes` are codes; the kinds of layers are those of `layer_kinds`.
    """
    kinds = layer_kinds(config.depth, "dalle")
    return ImageLMConfig(
        **vars(config),
        vocab_size=-(-(num_codes + num_text) // 128) * 128,
        mlp_dim=4 * config.width,
        max_positions=text_len + grid**2,
        patterns=tuple(
            Pattern(kind, grid, grid, row_extent=row_extent) for kind in kinds
        ),
        num_text=text_len,
    )


class ImageLM(nn.Module):
    """ids [b, t] -> logits [b, t, v]; the same code trains, prefills and decodes."""

    config: ImageLMConfig

    @nn.compact
    def __call__(
        self,
        ids: Array,
        positions: Array,
        mask: Array | None = None,
        cache: list[Cache] | None = None,
        place: Array | int | None = None,
        key: Array | None = None,
        pivots: Array | None = None,
        scales: Array | None = None,
        only_last: bool = False,
        parts: tuple[tuple[slice, slice | None], ...] = (),
        visible: Array | None = None,
    ) -> tuple[Array | list[Array], list[Cache] | None]:
        """Runs the decoder.

        Args:
          ids, positions: int [b, t].
          mask: bool [b, t, s]; None is causal over the inputs. Over the prefixes alone,
            [p, 1, t], where `place` is given.
          cache: of `make_cache`; the inputs are its prefixes, or with `place` what
            continues them from that position on.
          key: dropout key; None for evaluation.
          pivots: int [l, b, p] of `draw_pivots`: attend to them and the `window`.
          scales: float32 [l, 2], of the gradients of each layer's branches; those of
            the parameters are then scaled too, see `unscale_blocks`.
          only_last: compute the logits of the last position only.
          parts: static (positions, ids): compute only these logits, a list of arrays.
            Without ids the states that logits are made of, [b, t, d]: what the last
            layer knows of the token that follows each position.
          visible: bool [b, text positions], with patterns: False where none sees it.

        Returns:
          (logits [b, t, v] in float32, updated cache or None).
        """
        cfg = self.config
        dtype = jnp.float32 if cfg.gradient_scale == "resblock" else cfg.dtype
        table = self._table("token_embedding", cfg.vocab_size)
        x = _look_up(table, ids, "vocab") + self._places(positions)
        x = constrain(x, "batch", "sequence", None)
        x = shrink_gradient(x.astype(dtype), cfg.embedding_gradient)
        layer_keys = None
        if key is not None and cfg.dropout > 0:
            embed_key, stack_key = jax.random.split(key)
            x = nn.Dropout(cfg.dropout, deterministic=False)(x, rng=embed_key)
            layer_keys = jax.random.split(stack_key, cfg.depth)
        stack = Stack(
            _block(cfg), cfg.depth, cfg.remat, cfg.unroll, cfg.patterns, name="blocks"
        )
        layers = LayerInput(None, layer_keys, pivots, scales)
        if cache is not None:
            layers = [LayerInput(layer) for layer in cache]
        x, cache = stack(x, layers, mask, place, visible)
        x = x[:, -1:] if only_last else x
        x = RelaxedNorm(norm_scope=cfg.norm_scope, name="final_norm")(x)
        x = constrain(x, "batch", None, None)
        table = self.get_variable("params", "head", table)
        if parts:
            return [_part(x[:, at], table, ids) for at, ids in parts], cache
        return _score(x, table), cache

    def _places(self, positions: Array) -> Array:
        """Embedding of positions: int [...] -> [..., d]."""
        cfg = self.config
        count = cfg.num_text if cfg.grid else cfg.max_positions
        text = self._table("position_embedding", count)
        if not cfg.grid:
            return _look_up(text, positions, None)
        rows = self._table("row_embedding", cfg.grid)
        columns = self._table("column_embedding", cfg.grid)
        code = jnp.clip(positions - count, 0, cfg.grid**2 - 1)
        image = _look_up(rows, code // cfg.grid, None)
        image += _look_up(columns, code % cfg.grid, None)
        own = _look_up(text, jnp.minimum(positions, count - 1), None)
        return jnp.where((positions < count)[..., None], own, image)

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
    # Rows are looked up whole: the width of a table that is split is gathered first.
    return constrain(table, axis, None)[ids]


def _part(x: Array, table: Array | matmul.Packed, ids: slice | None) -> Array:
    """Logits of some ids, or the states themselves."""
    return x if ids is None else _score(x, table[ids])


def _score(x: Array, table: Array | matmul.Packed) -> Array:
    """x [b, t, d] -> logits float32 [b, t, v]."""
    if isinstance(table, matmul.Packed):
        return matmul.product(x, table).astype(jnp.float32)
    logits = jnp.einsum("btd,vd->btv", x, table.astype(x.dtype))
    return constrain(logits.astype(jnp.float32), "batch", None, "vocab")


def _block(config: ImageLMConfig) -> Block:
    """The template of all layers; `Stack` owns them."""
    return Block(
        heads=config.heads,
        head_dim=config.head_dim,
        mlp_dim=config.mlp_dim,
        init_depth=config.depth,
        dropout=config.dropout,
        alpha=config.alpha,
        norm_scope=config.norm_scope,
        sandwich=config.sandwich,
        dtype=jnp.dtype(config.dtype),
        num_text=config.num_text,
        implementation=config.implementation,
        window=config.window,
        window_times=config.window_times,
        image_first=config.image_first,
        text_causal=config.text_causal,
        num_question=config.num_question,
        num_asked=config.num_asked,
        parent=None,
    )


def unscale_blocks(params: Any, scales: Array) -> Any:
    """The same parameters; their gradients in the blocks are divided by `scales`.

    scales: float32 [l, 2] of `ImageLM`, which multiplies by them.
    """

    def unscale(path, leaf):
        factor = 1 / scales[:, branch_of(path[0].key)]
        return scale_gradient(leaf, factor.reshape(-1, *(1,) * (leaf.ndim - 1)))

    layers = jax.tree_util.tree_map_with_path(unscale, params["blocks"]["layers"])
    return {**params, "blocks": {**params["blocks"], "layers": layers}}


def finite_branches(grads: Any) -> Array:
    """bool [l, 2]: whether all gradients of each branch's parameters are finite."""
    layers = grads["blocks"]["layers"]

    def all_finite(branch):
        parts = [part for name, part in layers.items() if branch_of(name) == branch]
        leaves = [leaf.reshape(len(leaf), -1) for leaf in jax.tree.leaves(parts)]
        return jnp.all(jnp.stack([jnp.isfinite(x).all(1) for x in leaves]), axis=0)

    return jnp.stack([all_finite(0), all_finite(1)], axis=1)


def param_shapes(config: ImageLMConfig) -> Any:
    """Nested shapes and dtypes of the parameters, without computing any."""
    ids = jnp.zeros((1, 2), jnp.int32)
    return jax.eval_shape(ImageLM(config).init, jax.random.key(0), ids, ids)["params"]


def make_cache(
    config: ImageLMConfig,
    num_prefix: int,
    prefix_len: int,
    batch: int,
    num_tokens: int,
    window: int = 1,
) -> list[Cache]:
    """Zeroed caches of all layers, to continue prefixes by `num_tokens` each.

    batch: sequences, batch / num_prefix of each prefix in turn. window: most positions
    a call. With patterns the prefix is the text and `num_tokens` the image, or, where
    the image comes first, that and the start of the text.
    """
    dtype = jnp.dtype(config.dtype)
    patterns = config.patterns
    if config.image_first or not patterns:
        patterns = (Pattern("full", 1, num_tokens),) * config.depth
    return [
        empty_cache(
            cache_plan(pattern, window),
            num_prefix,
            prefix_len,
            batch,
            config.heads,
            config.head_dim,
            dtype,
        )
        for pattern in patterns
    ]


def reading(
    config: ImageLMConfig, num_question: int = 0, num_asked: int = 1
) -> ImageLMConfig:
    """The network, of the same parameters, that reads a picture and writes text.

    num_question: so many text positions between the picture and what is written are a
    question, and see each other both ways. num_asked: captions of a picture in one
    sequence, or questions, each with its answer, for training.
    A causal decoder reads both kinds of sequences, so it is its own.
    """
    if config.text_causal:
        return config
    patterns = tuple(replace(pattern, causal=False) for pattern in config.patterns)
    return replace(
        config,
        patterns=patterns,
        image_first=True,
        num_question=num_question,
        num_asked=num_asked,
    )


def scoring(params: Any, id_range: tuple[int, int]) -> Any:
    """Parameters with which only the ids [start, stop) are scored, as logits 0 .. ."""
    return {**params, "head": params["token_embedding"][slice(*id_range)]}


def for_inference(params: Any, weights: matmul.WeightFormat = "float32") -> Any:
    """Parameters as sampling reads them fastest: one array a layer, packed.

    `ImageLM` takes them in place of the trained ones; they have no gradient. int8 and
    bfloat16 make them a quarter and half as large; norms and biases stay float32.
    """
    table = {
        name: matmul.pack(jnp.asarray(params[name]), weights)
        for name in params
        if name.endswith("_embedding")
    }
    stacked = params["blocks"]["layers"]
    depth = len(jax.tree.leaves(stacked)[0])
    layers = [
        {name: _packed(name, part, i, weights) for name, part in stacked.items()}
        for i in range(depth)
    ]
    return {**params, **table, "blocks": {**params["blocks"], "layers": layers}}


def _packed(name: str, part: Any, layer: int, weights: matmul.WeightFormat) -> Any:
    """The parameters of one module in one layer."""
    part = {key: jnp.asarray(leaf[layer]) for key, leaf in part.items()}
    if name not in MATRIX_AXES:
        return part
    inputs, _ = MATRIX_AXES[name]
    kernel = part["kernel"]
    flat = kernel.reshape(math.prod(kernel.shape[: len(inputs)]), -1)
    return {**part, "kernel": matmul.pack(flat.T, weights)}


def matrix_axes(params):
    """(input axes, output axes) of each kernel of the blocks, None for other leaves."""

    def axes(path, _):
        names = [part.key for part in path]
        return MATRIX_AXES.get(names[-2]) if names[-1] == "kernel" else None

    return jax.tree_util.tree_map_with_path(axes, params)
