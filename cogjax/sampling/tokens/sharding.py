"""Where packed weights and a decode state live on a mesh.

Weights are read at every token, so they are split over `tensor` and gathered nowhere;
sequences are split over `data` and `fsdp`, heads of the caches as those of the weights.
"""

from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding

from cogjax.models.encoder_decoder import LayerCache
from cogjax.ops.cache import Cache
from cogjax.ops.window_cache import WindowPlan
from cogjax.parallel.axes import partition
from cogjax.parallel.rules import tree_shardings
from cogjax.sampling.tokens.autoregressive import DecodeState

# What `for_inference` packs: names of the last axes of each leaf, by its path.
PACKED_AXES = (
    ("qkv/kernel/rows", ("heads", None)),
    ("qkv/kernel/scale", ("heads",)),
    ("qkv/bias", (None, "heads", None)),
    ("cross_(query|key_value)/kernel/rows", ("heads", None)),
    ("cross_(query|key_value)/kernel/scale", ("heads",)),
    ("(attn|cross)_out/kernel/rows", (None, "heads")),
    ("mlp_(in|gate)/kernel/rows", ("mlp", None)),
    ("mlp_(in|gate)/(kernel/scale|bias)", ("mlp",)),
    ("mlp_out/kernel/rows", (None, "mlp")),
    ("(token_embedding|head)/rows", ("vocab", None)),
    ("(token_embedding|head)/scale", ("vocab",)),
    (".*", ()),
)


def packed_shardings(params: Any, mesh: Mesh) -> Any:
    """One sharding a leaf of `for_inference`; UserError if the mesh does not divide."""
    return tree_shardings(params, mesh, PACKED_AXES)


def state_shardings(state: DecodeState, mesh: Mesh) -> DecodeState:
    """One sharding a leaf of a decode state, or of its shapes.

    The data and fsdp axes must divide sequences and prompts, the tensor axis heads.
    """

    def place(*axes: str | None) -> NamedSharding:
        return NamedSharding(mesh, partition(axes))

    def of_cache(cache: Cache) -> Cache:
        # Columns have banks before the sequences; a sequence alone has no axis.
        rows = ("batch",) if len(state.logits) > 1 else ()
        lead = (None,) * (cache.key.ndim - len(rows) - 3) + rows
        prefix, image = (place(*x, "heads", None, None) for x in (("batch",), lead))
        held = place("batch", None) if isinstance(cache.plan, WindowPlan) else None
        return Cache(prefix, prefix, image, image, cache.plan, held, held)

    def of_layer(layer: Cache | LayerCache) -> Cache | LayerCache:
        if isinstance(layer, Cache):
            return of_cache(layer)
        text = place("batch", "heads", None, None)
        return LayerCache(of_cache(layer.own), text, text)

    rest = state._replace(cache=[])
    shardings = jax.tree.map(
        lambda leaf: place(*("batch", *(None,) * leaf.ndim)[: leaf.ndim]), rest
    )
    return shardings._replace(cache=[of_layer(layer) for layer in state.cache])
