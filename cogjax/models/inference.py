"""Packed weights and caches, with which sampling runs an `ImageLM`."""

import functools
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from cogjax.models.image_lm import MATRIX_AXES
from cogjax.models.image_lm_config import ImageLMConfig
from cogjax.ops import packed as matmul
from cogjax.ops.cache import Cache, cache_plan, empty_cache, text_plan
from cogjax.ops.pivot_attention import Window, fixed_codes
from cogjax.ops.window_cache import WindowPlan, window_plan

MatrixAxes = Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]


def scoring(params: Any, id_range: tuple[int, int]) -> Any:
    """Parameters with which only the ids [start, stop) are scored, as logits 0 .. ."""
    table = params.get("head", params["token_embedding"])
    found = {**params, "head": table[slice(*id_range)]}
    if "head_bias" in params:
        found["head_bias"] = params["head_bias"][slice(*id_range)]
    return found


def for_inference(params: Any, weights: matmul.WeightFormat = "float32") -> Any:
    """Parameters as sampling reads them fastest: one array a layer, packed.

    `ImageLM` takes them in place of the trained ones; they have no gradient. int8 and
    bfloat16 make them a quarter and half as large; norms and biases stay float32.
    """
    table = {
        name: params[name]
        for name in params
        if name.endswith("_embedding") or name == "head"
    }
    table = packed_tables(table, weights)
    layers = packed_layers(params["blocks"]["layers"], MATRIX_AXES, weights)
    return {**params, **table, "blocks": {**params["blocks"], "layers": layers}}


@functools.partial(jax.jit, static_argnums=1)
def packed_tables(
    tables: Mapping[str, Array], weights: matmul.WeightFormat
) -> dict[str, matmul.Packed]:
    """Tables [o, i] by their names, packed."""
    return {name: matmul.pack(table, weights) for name, table in tables.items()}


def packed_layers(
    stacked: Any, axes: MatrixAxes, weights: matmul.WeightFormat
) -> list[Any]:
    """Parameters of each layer, their kernels packed; leaves of `stacked` [l, ...].

    axes: of the kernels by the names of their modules, as of a network's MATRIX_AXES.
    """
    leaves = jax.tree.leaves(stacked)
    num_inputs = tuple((name, len(inputs)) for name, (inputs, _) in axes.items())
    if isinstance(leaves[0], Array):
        each = ((stacked, i) for i in range(len(leaves[0])))
    else:
        # Only a layer at a time goes from the host to the device.
        each = ((_one(stacked, i), 0) for i in range(len(leaves[0])))
    return [_packed_layer(*layer, num_inputs, weights) for layer in each]


def _one(stacked: Any, layer: int) -> Any:
    """A stack of one layer."""
    return jax.tree.map(lambda x: x[layer : layer + 1], stacked)


@functools.partial(jax.jit, static_argnums=(2, 3))
def _packed_layer(
    stacked: Any,
    layer: Array,
    num_inputs: tuple[tuple[str, int], ...],
    weights: matmul.WeightFormat,
) -> Any:
    """One layer, packed; num_inputs: how many axes of the kernels are of inputs."""
    one = jax.tree.map(lambda x: lax.dynamic_index_in_dim(x, layer, 0, False), stacked)
    return _packed("", one, dict(num_inputs), weights)


def _packed(
    name: str, part: Any, num_inputs: Mapping[str, int], weights: matmul.WeightFormat
) -> Any:
    """The parameters of one module in one layer."""
    if not isinstance(part, Mapping):
        return part
    part = {key: _packed(key, x, num_inputs, weights) for key, x in part.items()}
    if name not in num_inputs:
        return part
    kernel = part["kernel"]
    inputs = math.prod(kernel.shape[: num_inputs[name]])
    flat = kernel.reshape(inputs, -1)  # [in, out]
    return {**part, "kernel": matmul.pack(flat.T, weights)}


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
    a call. Where an image follows the prefix, a layer keeps the positions that its kind
    sees; or a window and pivots, of the prefix too.
    """
    dtype, grid = jnp.dtype(config.dtype), config.sequence.segments[-1].grid
    # Text sees all earlier positions; an image sees those of the layer's kind.
    if config.window:
        plans = _window_plans(config, num_tokens, window)
        prefix_len = min(prefix_len, config.num_pivots + plans[0].reach)
    elif grid is None:
        plans = [text_plan(num_tokens, window)] * config.depth
    else:
        plans = [cache_plan(kind, grid, window) for kind in config.layer_kinds]
    sizes = num_prefix, prefix_len, batch, config.heads, config.head_dim
    return [empty_cache(plan, *sizes, dtype) for plan in plans]


def _window_plans(
    config: ImageLMConfig, num_tokens: int, calls: int
) -> list[WindowPlan]:
    """Plan of each layer; calls: most positions a call."""
    size, times, length = config.window, config.window_times, config.sequence.length
    window = Window.of(size, times, length, config.num_pivots)
    if config.reads:
        return [window_plan(window, None, num_tokens, calls)] * config.depth
    found = fixed_codes(config.depth, config.image_len, config.image_pivots)
    return [
        window_plan(window, tuple(codes), num_tokens, calls) for codes in found.tolist()
    ]
