"""What the objectives of transformers share: start, and gradient scales of branches."""

from typing import Any

import jax.numpy as jnp
from jax import Array

from cogjax.models.image_lm import (
    ImageLM,
    finite_branches,
    unscale_blocks,
)
from cogjax.models.image_lm_config import ImageLMConfig
from cogjax.ops import gradient_scale


def needs_loss_scale(config: ImageLMConfig) -> bool:
    """Float16 without any scale would lose small gradients without a word."""
    return config.dtype == "float16" and config.gradient_scale == "loss"


def init(model: ImageLM, key: Array) -> tuple[Any, dict[str, Array]]:
    """Returns (params, state); the state holds the resblocks' gradient scales."""
    ids = jnp.zeros((1, 2), jnp.int32)
    params, state = model.init(key, ids, ids)["params"], {}
    if model.config.gradient_scale == "resblock":
        state = gradient_scale.start_scales(model.config.depth)
    return params, state


def scale(params: Any, state: dict[str, Array], count: int):
    """(parameters, scales for `ImageLM` or None) of a batch that counts so many.

    count: of what the loss is a mean over, see `ops/gradient_scale.py`.
    """
    if not state:
        return params, None
    scales = state["scale"] * (count / gradient_scale.REPLICA_TOKENS)
    return unscale_blocks(params, scales), scales


def metrics(state: dict[str, Array]) -> dict[str, Array]:
    """The smallest and the largest scale, if there are any."""
    if not state:
        return {}
    return {"scale_min": jnp.min(state["scale"]), "scale_max": jnp.max(state["scale"])}


def rescale(state: dict[str, Array], grads: Any) -> tuple[dict[str, Array], Array]:
    """(next state, whether a scale of non-finite gradients may fall further)."""
    if not state:
        return state, jnp.zeros((), bool)
    finite = finite_branches(grads)
    may_fall = ~finite & (state["scale"] > gradient_scale.SMALLEST)
    return gradient_scale.next_scales(state, finite), jnp.any(may_fall)
