"""Dynamic loss scaling for float16 gradients (Micikevicius et al. 2018, section 3.2).

The loss is multiplied by a power of two before the backward pass and the gradients are
divided by it in float32, so that small ones do not underflow on the way.
"""

import jax.numpy as jnp
from jax import Array

START, SMALLEST, LARGEST = 2.0**16, 1.0, 2.0**24
# Good updates in a row after which the scale doubles: CogView's 1000.
WINDOW = 1000


def start_loss_scale() -> dict[str, Array]:
    """{"scale": float32, "good_steps": int32} before the first update."""
    return {"scale": jnp.float32(START), "good_steps": jnp.int32(0)}


def next_loss_scale(state: dict[str, Array], finite: Array) -> dict[str, Array]:
    """Halves the scale where the gradients were not `finite`, doubles it in time."""
    good_steps = jnp.where(finite, state["good_steps"] + 1, 0)
    doubles = good_steps == WINDOW
    factor = jnp.where(doubles, 2.0, jnp.where(finite, 1.0, 0.5))
    return {
        "scale": jnp.clip(state["scale"] * factor, SMALLEST, LARGEST),
        "good_steps": jnp.where(doubles, 0, good_steps),
    }
