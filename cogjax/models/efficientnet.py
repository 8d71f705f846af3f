"""EfficientNet-Lite0, inference only (Tan & Le 2019, arXiv 1905.11946; TF's Lite0).

Lite has no squeeze-and-excitation, ReLU6 for swish, and stem and head of fixed width.
Batch normalisation is folded into the convolutions by `interop/networks.py`, and
children are named as in the PyTorch port, so that its weights map one to one.
"""

import flax.linen as nn
import jax.numpy as jnp
from jax import Array, lax

from cogjax.nn.conv import Conv
from cogjax.nn.layers import weight

IMAGE_SIZE = 224
NUM_CLASSES = 1000

# Repeats, kernel, stride of the first, expansion, width: table 1 of the paper.
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


class EfficientNetLite0(nn.Module):
    """Pixels in [-1, 1] [b, y, x, 3] -> features [b, 1280] and logits [b, 1000].

    Convolutions pad as TensorFlow does with SAME: more at the end than at the start.
    """

    @nn.compact
    def __call__(self, x_byxc: Array) -> tuple[Array, Array]:
        conv = _conv("_conv_stem", 32, 3, stride=2)
        x = nn.relu6(conv(x_byxc))
        index = 0
        for repeats, kernel, stride, expansion, width in _STAGES:
            for repeat in range(repeats):
                step = stride if repeat == 0 else 1
                x = _block(f"_blocks.{index}.", x, width, kernel, step, expansion)
                index += 1
        x = nn.relu6(_conv("_conv_head", 1280, 1)(x))
        features = jnp.mean(x, axis=(1, 2))
        return features, nn.Dense(NUM_CLASSES, name="_fc")(features)


def _block(
    name: str, x: Array, width: int, kernel: int, stride: int, expansion: int
) -> Array:
    """Inverted bottleneck: expand, depthwise, project; added to x where it fits."""
    inner, h = x.shape[-1] * expansion, x
    if expansion != 1:
        h = nn.relu6(_conv(name + "_expand_conv", inner, 1)(h))
    depthwise = _Depthwise(kernel, stride, name=name + "_depthwise_conv")
    h = _conv(name + "_project_conv", width, 1)(nn.relu6(depthwise(h)))
    return x + h if h.shape == x.shape else h


class _Depthwise(nn.Module):
    """A kernel for each channel, as sums of shifted images.

    XLA's own grouped convolution made the whole network four times slower on a CPU.
    """

    kernel: int
    stride: int

    @nn.compact
    def __call__(self, x_byxc: Array) -> Array:
        width = x_byxc.shape[-1]
        shape = (self.kernel, self.kernel, 1, width)
        kernel = weight(self, "kernel", nn.initializers.lecun_normal(), shape)
        bias = weight(self, "bias", nn.initializers.zeros, (width,))
        padding = lax.padtype_to_pads(
            x_byxc.shape[1:3], shape[:2], (self.stride, self.stride), "SAME"
        )
        padded = jnp.pad(x_byxc, ((0, 0), *padding, (0, 0)))
        rows, columns = (-(-side // self.stride) for side in x_byxc.shape[1:3])
        total = jnp.broadcast_to(bias, (len(x_byxc), rows, columns, width))
        for y in range(self.kernel):
            for x in range(self.kernel):
                shifted = padded[
                    :,
                    y : y + (rows - 1) * self.stride + 1 : self.stride,
                    x : x + (columns - 1) * self.stride + 1 : self.stride,
                ]
                total += kernel[y, x, 0] * shifted
        return total


def _conv(name: str, width: int, kernel: int, stride: int = 1) -> Conv:
    strides = (stride, stride)
    return Conv(width, (kernel, kernel), strides, padding="SAME", name=name)
