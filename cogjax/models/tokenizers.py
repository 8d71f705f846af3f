"""The kinds of image tokenizers, by the names that their folders have.

A kind is a config with `image_size`, `grid`, `code_dim` and `codebook_size`, and a
network of it with `encode`, `code_logits` and `decode`.
"""

import flax.linen as nn

from cogjax.models.vqgan import VQGAN, VQGANConfig
from cogjax.models.vqvae import VQVAE, VQVAEConfig

TokenizerConfig = VQVAEConfig | VQGANConfig

KINDS: dict[str, tuple[type, type[nn.Module]]] = {
    "vqvae": (VQVAEConfig, VQVAE),
    "vqgan": (VQGANConfig, VQGAN),
}


def kind_of(config: TokenizerConfig) -> str:
    """Name of a config's kind."""
    return next(name for name, (cls, _) in KINDS.items() if type(config) is cls)


def network_of(config: TokenizerConfig) -> nn.Module:
    """The network of a config."""
    return KINDS[kind_of(config)][1](config)
