"""Convolutions in the form that is fastest on the platform.

On CPUs large ones are sums of fewer products (`winograd.py`) unless several devices
share them, and 1x1 convolutions are products of matrices; on others all are XLA's.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from einops import rearrange
from jax import Array

from cogjax.ops import winograd
from cogjax.ops.platform import platform

_LAYOUT = "NHWC", "HWIO", "NHWC"
_SIDES = (1, 1), (3, 3)
# Where mixing the kernel or the inputs costs more than it saves: below so many places
# of an image, channels, and products a tap.
_LEAST_PLACES, _LEAST_CHANNELS, _LEAST_PRODUCTS = 2**10, 2**5, 2**28
_LEAST_POINT_PRODUCTS = 2**26


def general(
    x_byxc: Array, kernel: Array, strides: Any, padding: Any, **settings: Any
) -> Array:
    """`jax.lax.conv_general_dilated`, as `flax.linen.Conv` calls it.

    Args:
      x_byxc: [b, y, x, c]; kernel: [p, q, c, d]; the others as there.

    Returns:
      [b, y, x, d], the same but for rounding.
    """
    sides = kernel.shape[:2]
    ones = {settings["lhs_dilation"], settings["rhs_dilation"], tuple(strides)}
    simple = ones == {(1, 1)} and settings["feature_group_count"] == 1
    if not (simple and sides in _SIDES and _is_large(x_byxc, kernel)):
        return jax.lax.conv_general_dilated(
            x_byxc, kernel, strides, padding, **settings
        )
    if isinstance(padding, str):
        padding = jax.lax.padtype_to_pads(x_byxc.shape[1:3], sides, strides, padding)
    return _fast(jnp.pad(x_byxc, ((0, 0), *padding, (0, 0))), kernel)


def valid_2x2(x_byxc: Array, kernel: Array) -> Array:
    """Convolution without padding: [b, y+1, x+1, c], [2, 2, c, d] -> [b, y, x, d]."""
    form = _fast if _is_large(x_byxc, kernel) else _plain
    return form(x_byxc, kernel)


def _is_large(x: Array, kernel: Array) -> bool:
    """Whether another form than XLA's pays, on this platform."""
    if platform() != "cpu":
        return False
    places, channels = math.prod(x.shape[1:3]), kernel.shape[2:]
    products = places * math.prod(channels)
    if len(kernel) == 1:
        return products >= _LEAST_POINT_PRODUCTS
    # Bands of images that lie on several devices would be gathered on all of them.
    if jax.sharding.get_abstract_mesh().size > 1:
        return False
    return (
        x.dtype == kernel.dtype == jnp.float32
        and places >= _LEAST_PLACES
        and min(channels) >= _LEAST_CHANNELS
        and products >= _LEAST_PRODUCTS
    )


@jax.custom_jvp
def _fast(x: Array, kernel: Array) -> Array:
    """Convolution without padding of a square kernel of up to 3 a side."""
    if len(kernel) == 1:
        return _plain(x, kernel)
    return winograd.convolve(x, kernel, _plain)


def _plain(x: Array, kernel: Array) -> Array:
    """As `_fast`, with all products."""
    if kernel.shape[:2] == (1, 1):
        return jnp.einsum("byxc,cd->byxd", x, kernel[0, 0])
    if kernel.shape[:2] == (2, 2):
        # The gradients are then products too; XLA's CPU convolution gradients are
        # slower.
        height, width = x.shape[1] - 1, x.shape[2] - 1
        taps = [x[:, i : i + height, j : j + width] for i in range(2) for j in range(2)]
        kernel = rearrange(kernel, "p q c d -> (p q c) d")
        return jnp.einsum("byxc,cd->byxd", jnp.concatenate(taps, axis=-1), kernel)
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "VALID", dimension_numbers=_LAYOUT
    )


def _fast_jvp(primals, tangents):
    """With the gradients of the plain form, which need less memory."""
    return _fast(*primals), jax.jvp(_plain, primals, tangents)[1]


_fast.defjvp(_fast_jvp)
