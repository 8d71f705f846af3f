"""Layers that Flax lacks."""

import math

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from cogjax.ops import packed as matmul
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


class Dense(nn.Module):
    """Product with `kernel` [inputs..., features...] plus `bias` [features...].

    Contracts the last `num_axes` axes. The kernel may also be `matmul.Packed`, inputs
    and features flat: then it is used as it is and has no gradient.
    """

    features: tuple[int, ...]
    std: float
    num_axes: int = 1
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        lead, inputs = x.shape[: -self.num_axes], x.shape[-self.num_axes :]
        x = x.astype(self.dtype)
        bias = self.param("bias", nn.initializers.zeros, self.features)
        kernel = self.get_variable("params", "kernel")
        if isinstance(kernel, matmul.Packed):
            flat = x.reshape(*lead, math.prod(inputs))
            out = matmul.product(flat, kernel).reshape(*lead, *self.features)
        else:
            init = nn.initializers.normal(self.std)
            kernel = self.param("kernel", init, (*inputs, *self.features))
            out = matmul.dense(x, kernel.astype(self.dtype), self.num_axes)
        return out + bias.astype(self.dtype)
