"""Image-shaped array functions: space-depth moves and strided convolutions.

The strided convolutions are written as stride-1 convolutions on rearranged arrays.
They compute the same numbers with the same number of products, and avoid the dilated
convolutions of the textbook form and of its gradient, which XLA's CPU backend runs up
to 10 times slower.
"""

import jax
import jax.numpy as jnp
from einops import rearrange
from jax import Array

from cogjax.ops.convolution import valid_2x2


def signed(images: Array) -> Array:
    """Pixels in [0, 255], of JAX or NumPy, -> float32 in [-1, 1]."""
    return images.astype(jnp.float32) / 127.5 - 1


def space_to_depth(x_byxc: Array, factor: int) -> Array:
    """[b, y*f, x*f, c] -> [b, y, x, f*f*c], channels ordered (row, column, c)."""
    return rearrange(x_byxc, "b (y i) (x j) c -> b y x (i j c)", i=factor, j=factor)


def depth_to_space(x_byxc: Array, factor: int) -> Array:
    """[b, y, x, f*f*c] -> [b, y*f, x*f, c], the inverse of `space_to_depth`."""
    return rearrange(x_byxc, "b y x (i j c) -> b (y i) (x j) c", i=factor, j=factor)


def doubled(x_byxc: Array) -> Array:
    """Each pixel as 2 x 2 of them: [b, y, x, c] -> [b, 2*y, 2*x, c]."""
    return x_byxc.repeat(2, axis=1).repeat(2, axis=2)


def max_pool(x_byxc: Array) -> Array:
    """Largest of each 2 x 2: [b, 2*y, 2*x, c] -> [b, y, x, c].

    The gradient goes to the first of equals. That of `jnp.max` compares with the result
    and divides by the number of equals, which is 0 where the two are computed anew and
    differ in rounding.
    """
    quads = rearrange(x_byxc, "b (y i) (x j) c -> (i j) b y x c", i=2, j=2)
    found = quads[0]
    for other in quads[1:]:
        found = jnp.where(found >= other, found, other)
    return found


def strided_conv(x_byxc: Array, kernel: Array, stride: int) -> Array:
    """Convolution with kernel 2 * stride, padding stride / 2: halves (thirds, ...).

    Args:
      x_byxc: [b, y*s, x*s, c]; kernel: [2*s, 2*s, c, d].

    Returns:
      [b, y, x, d]. With s = 2, torch's Conv2d(kernel 4, stride 2, padding 1).
    """
    low = stride // 2
    pad = (low, stride - low)
    x = jnp.pad(x_byxc, ((0, 0), pad, pad, (0, 0)))
    kernel = rearrange(
        kernel, "(p i) (q j) c d -> p q (i j c) d", p=2, q=2, i=stride, j=stride
    )
    return valid_2x2(space_to_depth(x, stride), kernel)


@jax.custom_jvp
def halving_conv(x_byxc: Array, kernel: Array) -> Array:
    """3x3 convolution of stride 2, padded by one on the right and bottom only.

    Args:
      x_byxc: [b, 2*y, 2*x, c]; kernel: [3, 3, c, d].

    Returns:
      [b, y, x, d]; VQGAN's down-sampling.
    """
    return jax.lax.conv_general_dilated(
        x_byxc,
        kernel,
        (2, 2),
        ((0, 1), (0, 1)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def _halving_jvp(primals, tangents):
    """With the gradients of a convolution of stride 1."""
    return halving_conv(*primals), jax.jvp(_halving_by_pixels, primals, tangents)[1]


def _halving_by_pixels(x_byxc: Array, kernel: Array) -> Array:
    """`halving_conv` on 2 x 2 pixels as one, with a kernel that is padded to 4 x 4."""
    x = jnp.pad(x_byxc, ((0, 0), (0, 2), (0, 2), (0, 0)))
    kernel = jnp.pad(kernel, ((0, 1), (0, 1), (0, 0), (0, 0)))
    kernel = rearrange(kernel, "(p i) (q j) c d -> p q (i j c) d", p=2, q=2)
    return valid_2x2(space_to_depth(x, 2), kernel)


halving_conv.defjvp(_halving_jvp)


def strided_conv_transpose(x_byxc: Array, kernel: Array, stride: int) -> Array:
    """Transposed convolution with kernel 2 * stride, the adjoint of `strided_conv`.

    Args:
      x_byxc: [b, y, x, c]; kernel: [2*s, 2*s, c, d], not flipped: output pixel
        `s*i - low + a` receives `x[i] * kernel[a]`, with `low = s // 2`.

    Returns:
      [b, y*s, x*s, d]. With s = 2, torch's ConvTranspose2d(4, 2, padding 1) with its
      weight [c, d, 4, 4] transposed to [4, 4, c, d].
    """
    x = jnp.pad(x_byxc, ((0, 0), (1, 1), (1, 1), (0, 0)))
    # Block g of outputs reads x[g - 1] through the second half of the kernel and x[g]
    # through the first, hence the flip of the block axes.
    kernel = rearrange(
        kernel, "(p i) (q j) c d -> p q c (i j d)", p=2, q=2, i=stride, j=stride
    )[::-1, ::-1]
    y = depth_to_space(valid_2x2(x, kernel), stride)
    low, high = stride // 2, stride - stride // 2
    return y[:, low : y.shape[1] - high, low : y.shape[2] - high]


def resize_conv(x_byxc: Array, kernel: Array, stride: int) -> Array:
    """Repeats every pixel stride x stride times, then convolves.

    Unlike a transposed convolution with free weights, it cannot draw a chequer of its
    own: neighbouring outputs share weights (Odena et al. 2016).

    Args:
      x_byxc: [b, y, x, c]; kernel: [s+1, s+1, c, d]. With s = 2 a 3x3 convolution,
        padded by zeros to the same size.

    Returns:
      [b, y*s, x*s, d].
    """
    # Both steps are one transposed convolution: its kernel is the flipped one, summed
    # over the places of a pixel's copies.
    flipped = kernel[::-1, ::-1]
    spread = sum(
        jnp.pad(flipped, ((i, stride - 1 - i), (j, stride - 1 - j), (0, 0), (0, 0)))
        for i in range(stride)
        for j in range(stride)
    )
    return strided_conv_transpose(x_byxc, spread, stride)
