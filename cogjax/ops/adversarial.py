"""What adversarial training needs of arrays: hinge, adaptive weight, set gradients."""

import jax
import jax.numpy as jnp
from jax import Array


def hinge(real: Array, fake: Array) -> Array:
    """The discriminator's loss on its logits of both kinds, any shapes -> scalar.

    (mean(max(0, 1 - real)) + mean(max(0, 1 + fake))) / 2, as VQGAN has it.
    """
    return (jnp.mean(jax.nn.relu(1 - real)) + jnp.mean(jax.nn.relu(1 + fake))) / 2


def with_gradient(value: Array, x: Array, gradient: Array) -> Array:
    """The scalar `value`, whose gradient with respect to x is `gradient` (x's shape).

    For a gradient that is there already, because something else needed it.
    """
    x = x - jax.lax.stop_gradient(x)
    inner = jnp.sum(x * jax.lax.stop_gradient(gradient))
    return jax.lax.stop_gradient(value) + inner


def kernel_gradient(inputs: Array, gradient: Array, side: int = 3) -> Array:
    """Gradient at the kernel of a convolution, from that at its output.

    Args:
      inputs: [b, y, x, c]; gradient: [b, y, x, d]; side: of the kernel, padding "SAME".

    Returns:
      [side, side, c, d].
    """
    kernel = jax.ShapeDtypeStruct(
        (side, side, inputs.shape[-1], gradient.shape[-1]), inputs.dtype
    )
    convolve = jax.linear_transpose(
        lambda kernel: jax.lax.conv_general_dilated(
            inputs, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        ),
        kernel,
    )
    return convolve(gradient)[0]


def adaptive_weight(first: Array, second: Array) -> Array:
    """|first| / (|second| + 1e-4) of two gradients of one shape, in [0, 1e4].

    Esser et al. 2021, equation 7 (the constant is the release's), without gradient.
    """
    ratio = jnp.linalg.norm(first) / (jnp.linalg.norm(second) + 1e-4)
    return jax.lax.stop_gradient(jnp.clip(ratio, 0.0, 1e4))
