"""The only place where layers are repeated: `lax.scan` over stacked parameters."""

from typing import Any

import flax.linen as nn
import jax
from jax import Array


class Stack(nn.Module):
    """Applies `depth` copies of `block` in turn, parameters stacked on axis 0.

    The block is called as `block(x, xs, *shared) -> (x, ys)`. `xs` is a pytree whose
    leaves have a leading layer axis (caches, dropout keys), `shared` is the same for
    all layers. Returns `(x, ys)` with `ys` stacked.

    remat: name of a `jax.checkpoint_policies` policy, or "none" to keep activations.
    unroll: layers traced per loop step; a full unroll suits decoding on the CPU, where
    a scan would copy each layer's weights at every token.
    """

    block: nn.Module
    depth: int
    remat: str = "none"
    unroll: int = 1

    @nn.compact
    def __call__(self, x: Array, xs: Any, *shared: Any) -> tuple[Array, Any]:
        block = self.block.clone(parent=None)

        def init(key: Array):
            first = jax.tree.map(lambda leaf: leaf[0], xs)
            keys = jax.random.split(key, self.depth)
            return jax.vmap(lambda k: block.init(k, x, first, *shared)["params"])(keys)

        params = self.param("layers", init)

        def step(carry, layer):
            layer_params, layer_xs = layer
            return block.apply({"params": layer_params}, carry, layer_xs, *shared)

        if self.remat != "none":
            policy = getattr(jax.checkpoint_policies, self.remat)
            step = jax.checkpoint(step, prevent_cse=False, policy=policy)
        return jax.lax.scan(step, x, (params, xs), unroll=self.unroll)
