"""Training a VQGAN (Esser et al. 2021, arXiv 2012.09841, sections 3.1 and A).

    tokenizer:      terms of `tasks/image_loss.py` + codebook_weight * codebook
    discriminator:  hinge of D(x) and D(x^)

Both are updated at once from one backward pass: the gradient of the first line stops at
D's weights and that of the second at the tokenizer's. taming alternates: it updates the
tokenizer, draws again, and then shows D these newer pictures. One optimiser with one
clip serves both: set `optim.clip` to 0, or the norms of both count together.
"""

from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import Array

from cogjax.errors import UserError
from cogjax.models.vqgan import VQGAN, VQGANConfig
from cogjax.tasks.codebook import Codebook, CodebookConfig
from cogjax.tasks.image_loss import PictureConfig, PictureLoss


@dataclass(frozen=True)
class GANConfig(CodebookConfig, PictureConfig):
    """Objective of a VQGAN; defaults are taming's where not said.

    restart_below: above 0 is ours.
    """

    method: str = "straight_through"
    temperature_start: float = 0.9
    temperature_end: float = 1e-6
    anneal_steps: int = 1_000_001
    anneal: Literal["exponential", "cosine"] = "cosine"
    kl_weight: float = 1e-8
    codebook_weight: float = 1.0

    def __post_init__(self):
        CodebookConfig.__post_init__(self)
        PictureConfig.__post_init__(self)
        if self.codebook_weight < 0:
            raise ValueError("weights and disc_start must not be negative")


class GANTask:
    """Task over batches {"image": uint8 [b, y, x, 3]}.

    lpips: as of `PictureLoss`. UserError for settings that do not fit each other.
    """

    def __init__(self, model: VQGANConfig, config: GANConfig, lpips: Any = None):
        if (model.form == "gumbel") != (config.method == "gumbel"):
            raise UserError(
                f"task.method {config.method!r} does not fit model.form "
                f"{model.form!r}: 'gumbel' needs both to be 'gumbel'"
            )
        self.model, self.config = VQGAN(model), config
        self._pictures = PictureLoss(config, model.image_size, lpips=lpips)
        self._codes = Codebook(self.model, config)

    def init(self, key: Array):
        """Returns (params, state); params also hold the discriminator."""
        params, state = self._codes.init(key)
        params["discriminator"] = self._pictures.init(jax.random.fold_in(key, 1))
        return params, state

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
        net, step = {"params": params["net"]}, state["step"]
        z = self.model.apply(net, images, method="encode")
        quantized, state, metrics = self._codes.quantize(params, state, z, key)
        hidden, drawn = self.model.apply(net, quantized, method="decode_parts")
        loss, parts = self._pictures(
            params["discriminator"], step, images, hidden, drawn
        )
        loss += self.config.codebook_weight * metrics["codebook_loss"]
        return loss, (state, {**metrics, **parts})

    def eval_metrics(self, params, state, batch, key: Array):
        """Reconstruction through the best code: l2, psnr (dB), usage, l1, lpips."""
        del key
        images = batch["image"].astype(jnp.float32) / 255
        decoded, metrics = self._codes.reconstruct(params, state, images)
        return metrics | self._pictures.distance(2 * decoded - 1, 2 * images - 1)[1]
