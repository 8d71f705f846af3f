"""VGG16's convolutions with the heads of LPIPS, inference only.

Simonyan & Zisserman 2014 (arXiv 1409.1556); Zhang et al. 2018 (arXiv 1801.03924).
Children are named as in torchvision (`features.N`) and the LPIPS weights (`linN`).
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from cogjax.nn.conv import Conv
from cogjax.nn.layers import weight

# The index of each convolution in torchvision's list of layers, by level.
_LEVELS = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))
_WIDTHS = (64, 128, 256, 512, 512)
# ImageNet's means and deviations for pixels in [-1, 1], with the numbers of LPIPS 0.1.
_SHIFT = (-0.030, -0.088, -0.188)
_SCALE = (0.458, 0.448, 0.450)


class Vgg16Lpips(nn.Module):
    """Pixels in [-1, 1] [b, y, x, 3] -> the levels and their weights.

    The five levels are [b, y / 2^i, x / 2^i, (64, 128, 256, 512, 512)[i]], after the
    last relu before each pool; y and x at least 16. Weights are [channels], as LPIPS
    trained them: none is below 0. levels: their number; LPIPS itself has all five.
    """

    levels: int = 5

    @nn.compact
    def __call__(self, x_byxc: Array) -> tuple[list[Array], list[Array]]:
        x = (x_byxc - jnp.array(_SHIFT)) / jnp.array(_SCALE)
        levels, weights = [], []
        sizes = list(zip(_LEVELS, _WIDTHS, strict=True))[: self.levels]
        for level, (indices, width) in enumerate(sizes):
            if level:
                x = nn.max_pool(x, (2, 2), (2, 2))
            for index in indices:
                x = nn.relu(Conv(width, (3, 3), name=f"features.{index}")(x))
            levels.append(x)
            head = weight(self, f"lin{level}", nn.initializers.ones, (width,))
            weights.append(head)
        return levels, weights


def mean_lpips(params: Any, fake: Array, real: Array, levels: int = 5) -> Array:
    """Mean LPIPS of pairs of pixels in [-1, 1] [b, y, x, 3], by `Vgg16Lpips`."""
    network = Vgg16Lpips(levels)
    got, weights = network.apply({"params": params}, fake)
    wanted, _ = network.apply({"params": params}, real)
    return jnp.mean(lpips_distance(got, wanted, weights))


def lpips_distance(
    levels_a: list[Array], levels_b: list[Array], weights: list[Array]
) -> Array:
    """Distance [b] of two lists of levels [b, y, x, c] with weights [c] (equation 1).

    Channels are normalised to unit length at each place, squared differences weighted,
    averaged over places and added over levels.
    """
    total = jnp.zeros(levels_a[0].shape[0])
    for a_byxc, b_byxc, head in zip(levels_a, levels_b, weights, strict=True):
        squares = jnp.square(_unit(a_byxc) - _unit(b_byxc))
        total += jnp.mean(squares @ head, axis=(1, 2))
    return total


def _unit(x: Array) -> Array:
    # Added to the norm, as in the original, not to its square: zeros stay zeros.
    return x / (jnp.linalg.norm(x, axis=-1, keepdims=True) + 1e-10)
