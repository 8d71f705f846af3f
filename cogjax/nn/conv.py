"""Convolutional building blocks on images [b, y, x, c]."""

from collections.abc import Callable

import flax.linen as nn
import jax
from jax import Array

from cogjax.nn.layers import stored, weight
from cogjax.ops.convolution import general
from cogjax.ops.image import (
    halving_conv,
    resize_conv,
    strided_conv,
    strided_conv_transpose,
)


class Conv(nn.Conv):
    """Flax's convolution, which takes its stored parameters as `weight` does."""

    conv_general_dilated: Callable[..., Array] = general

    @nn.nowrap
    def param(self, name, init, shape, dtype):
        """The parameter `kernel` or `bias`, as `nn.Conv` asks for it."""
        found = stored(self, name, shape)
        return super().param(name, init, shape, dtype) if found is None else found


class ResBlock(nn.Module):
    """Residual block of VQ-VAE: relu, 3x3 to `inner`, relu, 1x1 back, add."""

    inner: int

    @nn.compact
    def __call__(self, x_byxc: Array) -> Array:
        h = Conv(self.inner, (3, 3), name="conv3")(nn.relu(x_byxc))
        h = Conv(x_byxc.shape[-1], (1, 1), name="conv1")(nn.relu(h))
        return x_byxc + h


class Down(nn.Module):
    """Strided convolution, kernel 2 * stride: [b, y, x, c] -> [b, y/s, x/s, width].

    With stride 2 this is CogView's 4x4 convolution with padding 1.
    """

    width: int
    stride: int = 2
    use_bias: bool = True
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, x_byxc: Array) -> Array:
        side = 2 * self.stride
        shape = (side, side, x_byxc.shape[-1], self.width)
        kernel = weight(self, "kernel", self.kernel_init, shape)
        x = strided_conv(x_byxc, kernel, self.stride)
        if self.use_bias:
            x += weight(self, "bias", nn.initializers.zeros, (self.width,))
        return x


class Halve(nn.Module):
    """3x3 convolution of stride 2, padded on the right and bottom: halves an even side.

    [b, 2*y, 2*x, c] -> [b, y, x, width].
    """

    width: int

    @nn.compact
    def __call__(self, x_byxc: Array) -> Array:
        shape = (3, 3, x_byxc.shape[-1], self.width)
        kernel = weight(self, "kernel", nn.initializers.lecun_normal(), shape)
        bias = weight(self, "bias", nn.initializers.zeros, (self.width,))
        return halving_conv(x_byxc, kernel) + bias


class Up(nn.Module):
    """Transposed convolution with kernel 2 * stride, the mirror image of `Down`.

    With `resize`, repeated pixels and a convolution with kernel stride + 1.
    """

    width: int
    stride: int = 2
    resize: bool = False
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, x_byxc: Array) -> Array:
        side = self.stride + 1 if self.resize else 2 * self.stride
        shape = (side, side, x_byxc.shape[-1], self.width)
        kernel = weight(self, "kernel", self.kernel_init, shape)
        bias = weight(self, "bias", nn.initializers.zeros, (self.width,))
        up = resize_conv if self.resize else strided_conv_transpose
        return up(x_byxc, kernel, self.stride) + bias


def conv_axes(params):
    """(input axes, output axes) of each kernel [y, x, in, out], None for other leaves.

    It is what `train/task.py` calls `matrix_axes`.
    """
    return jax.tree.map(lambda x: ((0, 1, 2), (3,)) if x.ndim == 4 else None, params)
