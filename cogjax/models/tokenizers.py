"""Common to all image tokenizers: their shapes, and the codebook beside the network.

A config has `image_size`, `grid`, `code_dim` and `codebook_size`, its network `encode`,
`code_logits` and `decode`.
"""

from typing import Any

import jax
import jax.numpy as jnp

from cogjax.models.dvae import DVAEConfig
from cogjax.models.registry import network_of
from cogjax.models.vqgan import VQGANConfig
from cogjax.models.vqvae import VQVAEConfig

TokenizerConfig = VQVAEConfig | VQGANConfig | DVAEConfig


def param_shapes(config: TokenizerConfig) -> dict[str, Any]:
    """Nested shapes and dtypes of the network's parameters."""
    size = config.image_size
    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    init = network_of(config).init
    return dict(jax.eval_shape(init, jax.random.key(0), images)["params"])


def state_shapes(config: TokenizerConfig) -> dict[str, Any]:
    """The codebook, [k, z]."""
    shape = config.codebook_size, config.code_dim
    return {"codebook": jax.ShapeDtypeStruct(shape, jnp.float32)}
