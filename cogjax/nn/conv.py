"""Convolutional building blocks on images [b, y, x, c]."""

import flax.linen as nn
from jax import Array

from cogjax.ops.image import strided_conv, strided_conv_transpose


class ResBlock(nn.Module):
    """Residual block of VQ-VAE: relu, 3x3 to `inner`, relu, 1x1 back, add."""

    inner: int

    @nn.compact
    def __call__(self, x_byxc: Array) -> Array:
        h = nn.Conv(self.inner, (3, 3), name="conv3")(nn.relu(x_byxc))
        h = nn.Conv(x_byxc.shape[-1], (1, 1), name="conv1")(nn.relu(h))
        return x_byxc + h


class Down(nn.Module):
    """Strided convolution, kernel 2 * stride: [b, y, x, c] -> [b, y/s, x/s, width].

    With stride 2 this is CogView's 4x4 convolution with padding 1.
    """

    width: int
    stride: int = 2

    @nn.compact
    def __call__(self, x_byxc: Array) -> Array:
        kernel, bias = _conv_params(self, x_byxc.shape[-1])
        return strided_conv(x_byxc, kernel, self.stride) + bias


class Up(nn.Module):
    """Transposed convolution with kernel 2 * stride, the mirror image of `Down`."""

    width: int
    stride: int = 2

    @nn.compact
    def __call__(self, x_byxc: Array) -> Array:
        kernel, bias = _conv_params(self, x_byxc.shape[-1])
        return strided_conv_transpose(x_byxc, kernel, self.stride) + bias


def _conv_params(module: nn.Module, in_width: int) -> tuple[Array, Array]:
    side = 2 * module.stride
    shape = (side, side, in_width, module.width)
    kernel = module.param("kernel", nn.initializers.lecun_normal(), shape)
    return kernel, module.param("bias", nn.initializers.zeros, (module.width,))
