"""Adam with both moments in 16 bits (DALL-E, section 2.4): half of their memory.

The arithmetic is float32; only what is kept from one update to the next is rounded.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from cogjax.ops.small_floats import MEAN, VARIANCE, pack, unpack

# The running mean of squares is clipped at this value (DALL-E, appendix B.2).
MOST_VARIANCE = 5.0
# Above, (1 - b2) of a new square is lost in the rounding of the running mean.
MOST_B2 = 0.99


def scale_by_adam_16(
    b1: float, b2: float, eps: float = 1e-8
) -> optax.GradientTransformation:
    """As `optax.scale_by_adam`, with uint16 moments of the formats 1-6-9 and 0-6-10."""

    def init(params: Any) -> optax.ScaleByAdamState:
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, jnp.uint16), params)
        count = jnp.zeros((), jnp.int32)
        return optax.ScaleByAdamState(count, zeros, jax.tree.map(jnp.copy, zeros))

    def update(grads: Any, state: optax.ScaleByAdamState, params: Any = None):
        del params
        count = optax.safe_increment(state.count)

        def mean(grad, packed):
            return b1 * unpack(packed, MEAN) + (1 - b1) * grad

        def variance(grad, packed):
            old = unpack(packed, VARIANCE)
            return jnp.minimum(b2 * old + (1 - b2) * jnp.square(grad), MOST_VARIANCE)

        mu = jax.tree.map(mean, grads, state.mu)
        nu = jax.tree.map(variance, grads, state.nu)
        first, second = 1 - b1**count, 1 - b2**count
        updates = jax.tree.map(
            lambda m, v: m / first / (jnp.sqrt(v / second) + eps), mu, nu
        )
        mu = jax.tree.map(lambda leaf: pack(leaf, MEAN), mu)
        nu = jax.tree.map(lambda leaf: pack(leaf, VARIANCE), nu)
        return updates, optax.ScaleByAdamState(count, mu, nu)

    return optax.GradientTransformation(init, update)
