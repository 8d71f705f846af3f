"""Layers that Flax lacks."""

import flax.linen as nn
from jax import Array

from cogjax.ops.precision import relaxed_layer_norm


class RelaxedNorm(nn.Module):
    """PB-Relax LayerNorm with learnt `scale` and `bias` [d] (CogView section 2.4)."""

    norm_scope: str = "token"
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: Array) -> Array:
        width = x.shape[-1]
        scale = self.param("scale", nn.initializers.ones, (width,))
        bias = self.param("bias", nn.initializers.zeros, (width,))
        return relaxed_layer_norm(
            x, scale, bias, epsilon=self.epsilon, scope=self.norm_scope
        )
