"""Layers that Flax lacks."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import reduce, repeat
from flax.errors import ScopeParamShapeError
from jax import Array

from cogjax.ops import packed as matmul
from cogjax.ops.precision import relaxed_layer_norm


def weight(
    module: nn.Module,
    name: str,
    init: nn.initializers.Initializer,
    shape: tuple[int, ...],
) -> Array:
    """A parameter of `module`: as stored, or `init(key, shape)` where there is none.

    ScopeParamShapeError if what is stored has another shape.
    """
    found = stored(module, name, shape)
    return module.param(name, init, shape) if found is None else found


def stored(module: nn.Module, name: str, shape: tuple[int, ...]) -> Array | None:
    """The parameter that `module` is applied with, None where there is none.

    Flax's own `param` traces the initialiser whenever a module is applied, only to
    compare shapes: half of the time that tracing a network takes.
    """
    found = module.get_variable("params", name)
    if found is not None and found.shape != shape:
        raise ScopeParamShapeError(name, "/".join(module.path), found.shape, shape)
    return found


class RelaxedNorm(nn.Module):
    """PB-Relax LayerNorm with learnt `scale` and `bias` [d] (CogView section 2.4)."""

    norm_scope: str = "token"
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: Array) -> Array:
        width = x.shape[-1]
        scale = weight(self, "scale", nn.initializers.ones, (width,))
        bias = weight(self, "bias", nn.initializers.zeros, (width,))
        return relaxed_layer_norm(
            x, scale, bias, epsilon=self.epsilon, scope=self.norm_scope
        )


class LayerNorm(nn.Module):
    """Norm of [..., d] with a learnt `bias` [d], and a `scale` [d] if `use_scale`."""

    use_scale: bool = True

    @nn.compact
    def __call__(self, x: Array) -> Array:
        width = x.shape[-1:]
        scale = jnp.ones(width)
        if self.use_scale:
            scale = weight(self, "scale", nn.initializers.ones, width)
        bias = weight(self, "bias", nn.initializers.zeros, width)
        return relaxed_layer_norm(x, scale, bias, scope="none")


class GroupNorm(nn.Module):
    """Group normalisation of [b, y, x, c] in float32, returned like its input."""

    groups: int
    epsilon: float = 1e-6

    @nn.compact
    def __call__(self, x_byxc: Array) -> Array:
        size = (x_byxc.shape[-1],)
        scale = weight(self, "scale", nn.initializers.ones, size)
        bias = weight(self, "bias", nn.initializers.zeros, size)
        x = x_byxc.astype(jnp.float32)
        # Two passes: the variance as a difference of squares cancels in float32. Sums
        # are of channels, then of groups: rows of channels lie together in memory.
        mean = self._over_groups(jnp.mean(x, axis=(1, 2)))
        x = x - mean[:, None, None]
        variance = self._over_groups(jnp.mean(jnp.square(x), axis=(1, 2)))
        factor = jax.lax.rsqrt(variance + self.epsilon) * scale  # [b, c]
        return (x * factor[:, None, None] + bias).astype(x_byxc.dtype)

    def _over_groups(self, x_bc: Array) -> Array:
        """The mean of the channels of each group, for each of its channels."""
        mean = reduce(x_bc, "b (g c) -> b g", "mean", g=self.groups)
        return repeat(mean, "b g -> b (g c)", c=x_bc.shape[-1] // self.groups)


class Dense(nn.Module):
    """Product with `kernel` [inputs..., features...] plus `bias` [features...].

    Contracts the last `num_axes` axes. The kernel may also be `matmul.Packed`, inputs
    and features flat: then it is used as it is and has no gradient. use_bias: False
    leaves the bias out.
    """

    features: tuple[int, ...]
    std: float
    num_axes: int = 1
    dtype: jnp.dtype = jnp.float32
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: Array) -> Array:
        lead, inputs = x.shape[: -self.num_axes], x.shape[-self.num_axes :]
        x = x.astype(self.dtype)
        kernel = self.get_variable("params", "kernel")
        if isinstance(kernel, matmul.Packed):
            flat = x.reshape(*lead, math.prod(inputs))
            out = matmul.product(flat, kernel).reshape(*lead, *self.features)
        else:
            init = nn.initializers.normal(self.std)
            kernel = weight(self, "kernel", init, (*inputs, *self.features))
            out = matmul.dense(x, kernel.astype(self.dtype), self.num_axes)
        if not self.use_bias:
            return out
        bias = weight(self, "bias", nn.initializers.zeros, self.features)
        return out + bias.astype(self.dtype)


class RMSNorm(nn.Module):
    """x over the root of its mean square, times `scale` [d]; T5's, without a mean.

    The mean is taken in float32. Returns [..., d] in the dtype of `x`.
    """

    epsilon: float = 1e-6

    @nn.compact
    def __call__(self, x: Array) -> Array:
        scale = weight(self, "scale", nn.initializers.ones, x.shape[-1:])
        wide = x.astype(jnp.float32)
        square = jnp.mean(jnp.square(wide), axis=-1, keepdims=True)
        return (wide * jax.lax.rsqrt(square + self.epsilon) * scale).astype(x.dtype)


def kernel_axes(table, params):
    """(input axes, output axes) of each kernel, by the name of its layer in `table`.

    None for other leaves. It is what `train/task.py` calls `matrix_axes`.
    """

    def axes(path, _):
        names = [part.key for part in path]
        return table.get(names[-2]) if names[-1] == "kernel" else None

    return jax.tree_util.tree_map_with_path(axes, params)
