"""Training an image tokenizer: mean squared error and a codebook (CogView 2.2)."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jax import Array

from cogjax.models.vqvae import VQVAE, VQVAEConfig
from cogjax.tasks.codebook import Codebook, CodebookConfig


@dataclass(frozen=True)
class VQConfig(CodebookConfig):
    """Objective of the tokenizer: that of its codebook, the rest has no settings."""


class VQTask:
    """Task over batches {"image": uint8 [b, y, x, 3]}."""

    def __init__(self, model: VQVAEConfig, config: VQConfig):
        self.model = VQVAE(model)
        self.config = config
        self._codes = Codebook(self.model, config)

    def init(self, key: Array):
        """Returns (params, state): network and learnt codebook; usage statistics."""
        return self._codes.init(key)

    def start_at(self, net: Any, codebook: Array, batch_size: int):
        """What they replace of `init`'s (params, state): `Codebook.start_at`."""
        return self._codes.start_at(net, codebook, batch_size)

    def codebook(self, params, state) -> Array:
        """The codebook in use, [k, z]."""
        return self._codes.vectors(params, state)

    def network(self, params, state) -> Any:
        """Parameters of the tokenizer's network."""
        del state
        return params["net"]

    def loss(self, params, state, batch, key: Array):
        """One training forward pass: (loss, (new state, metrics))."""
        images = batch["image"].astype(jnp.float32) / 255
        net = {"params": params["net"]}
        z = self.model.apply(net, images, method="encode")
        quantized, state, metrics = self._codes.quantize(params, state, z, key)
        decoded = self.model.apply(net, quantized, method="decode")
        mse = jnp.mean(jnp.square(decoded - images))
        return mse + metrics["codebook_loss"], (state, {"l2": mse, **metrics})

    def eval_metrics(self, params, state, batch, key: Array):
        """Reconstruction through the nearest code: l2, psnr (dB), usage."""
        del key
        images = batch["image"].astype(jnp.float32) / 255
        return self._codes.reconstruct(params, state, images)[1]
