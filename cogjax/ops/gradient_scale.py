"""Per-resblock gradient scaling (DALL-E, section 2.4 and appendix D).

Float16 holds no gradient below 6e-8, and gradients grow or shrink over a deep network:
no single factor fits all layers. So each residual branch has a scale of its own,

    forward    y = x + branch(x)                        x and y in float32
    backward   g = float16(scale * dy);   dx = dy + filter(branch^T g) / scale

and its parameters' gradients are divided by the scale in float32. A branch is the
attention or the MLP of a layer. A division by sqrt 2 drops the whole update.

DALL-E multiplies its numbers by M, the data-parallel replicas, of 8 sequences of 1,280
tokens each: the loss is divided by the batch of all. Here M is the tokens of the batch
/ 10,240, which is the same there and does not depend on the devices.
"""

import jax
import jax.numpy as jnp
from jax import Array

START, SMALLEST, LARGEST = 2.0**13, 2.0**7, 2.0**24
GROWTH, SHRINKAGE = 2 ** (1 / 1000), 2**-0.5
WINDOW = 125
REPLICA_TOKENS = 8 * 1280


def start_scales(depth: int) -> dict[str, Array]:
    """Scales before the first update of `depth` layers of two branches.

    Returns:
      scale: float32 [l, 2], over M. age: int32 [l, 2], updates since it last fell.
    """
    return {
        "scale": jnp.full((depth, 2), START, jnp.float32),
        "age": jnp.full((depth, 2), WINDOW, jnp.int32),
    }


def next_scales(scales: dict[str, Array], finite: Array) -> dict[str, Array]:
    """Scales after an update in which the gradients of a branch were `finite` or not.

    A scale grows by 2^(1/1000) or falls by sqrt 2, which it does once in 125 updates.

    Args:
      scales: of `start_scales`. finite: bool [l, 2].
    """
    scale, age = scales["scale"], scales["age"]
    falls = ~finite & (age >= WINDOW)
    scale = jnp.where(finite, scale * GROWTH, scale)
    scale = jnp.where(falls, scale * SHRINKAGE, scale)
    return {
        "scale": jnp.clip(scale, SMALLEST, LARGEST),
        "age": jnp.minimum(jnp.where(falls, 0, age) + 1, WINDOW),
    }


@jax.custom_vjp
def scale_gradient(x: Array, scale: Array) -> Array:
    """Returns float32 `x` [...] as it is; its gradient is multiplied by `scale`.

    scale: float32, broadcastable to x; it has no gradient itself. What is made float32
    before gets its gradient rounded after the product.
    """
    del scale
    return x


def _scale_forward(x, scale):
    return x, scale


def _scale_backward(scale, grad):
    return grad * scale, jnp.zeros_like(scale)


scale_gradient.defvjp(_scale_forward, _scale_backward)


@jax.custom_vjp
def unscale_gradient(x: Array, scale: Array) -> Array:
    """Returns float32 `x` [...] as it is; its gradient is filtered, then divided.

    Inf and NaN become 0: an overflow in this branch would otherwise make those of all
    branches before it fall with it.
    """
    del scale
    return x


def _unscale_backward(scale, grad):
    filtered = jnp.where(jnp.isfinite(grad), grad, 0)
    return filtered / scale, jnp.zeros_like(scale)


unscale_gradient.defvjp(_scale_forward, _unscale_backward)
