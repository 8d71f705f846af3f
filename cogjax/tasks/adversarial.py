"""What a discriminator adds to the loss of a network that draws pictures.

VQGAN's (`tasks/gan.py`), and that of a reconstructor end to end
(`families/ernie_vilg/end_to_end.py`).
"""

from typing import Protocol

import jax
import jax.numpy as jnp
from jax import Array

from cogjax.models.discriminator import Discriminator, DiscriminatorConfig
from cogjax.ops import adversarial


class JudgeSettings(Protocol):
    """Fields of the objective's settings: see `tasks/gan.py::GANConfig`."""

    disc_weight: float
    disc_start: int
    disc_layers: int
    disc_width: int
    adaptive: bool


class Judge:
    """A discriminator, `network`, and its terms in the losses of both."""

    def __init__(self, settings: JudgeSettings, image_size: int, side: int = 3):
        """side: of the kernel of the drawing network's last convolution.

        ValueError for more layers than can halve pictures of so many pixels a side.
        """
        sizes = DiscriminatorConfig(settings.disc_layers, settings.disc_width)
        unit = 2**settings.disc_layers
        if sizes.patches(image_size) < 1 or image_size % unit:
            raise ValueError(
                f"disc_layers {settings.disc_layers} is too many for pictures of "
                f"{image_size} px, which must be a multiple of {unit} and at least "
                f"{3 * unit}: choose fewer"
            )
        self.settings, self.network = settings, Discriminator(sizes)
        self._size, self._side = image_size, side

    def init(self, key: Array):
        """Parameters of the discriminator."""
        image = jnp.zeros((1, self._size, self._size, 3))
        return self.network.init(key, image)["params"]

    def __call__(self, disc, step, real, fake, hidden, pull):
        """What the discriminator, of parameters `disc`, adds from `disc_start` on.

        Args:
          real, fake: pixels about [-1, 1] [b, y, x, 3], without gradient.
          hidden: what the last convolution of the drawing network reads.
          pull: gradient of its other terms at the fake pixels.

        Returns:
          (term of the drawing network, loss of the discriminator, gradient at the fake
          pixels of all terms of the drawing network, metrics).
        """
        cfg = self.settings

        def logits(params, pixels):
            return self.network.apply({"params": params}, pixels)

        def judge():
            frozen = jax.lax.stop_gradient(disc)
            score, push = jax.value_and_grad(
                lambda pixels: -jnp.mean(logits(frozen, pixels))
            )(fake)
            weight = jnp.ones(())
            if cfg.adaptive:
                inputs = jax.lax.stop_gradient(hidden)
                weight = adversarial.adaptive_weight(
                    adversarial.kernel_gradient(inputs, pull, self._side),
                    adversarial.kernel_gradient(inputs, push, self._side),
                )
            weight *= cfg.disc_weight
            of_real, of_fake = logits(disc, real), logits(disc, fake)
            disc_loss = adversarial.hinge(of_real, of_fake)
            judged = {
                "disc_weight": weight,
                "logits_real": jnp.mean(of_real),
                "logits_fake": jnp.mean(of_fake),
            }
            return weight * score, disc_loss, pull + weight * push, judged

        def wait():
            zero = jnp.zeros(())
            names = ("disc_weight", "logits_real", "logits_fake")
            return zero, zero, pull, dict.fromkeys(names, zero)

        if not cfg.disc_weight:
            found = wait()
        else:
            found = jax.lax.cond(step >= cfg.disc_start, judge, wait)
        generator, disc_loss, pull, judged = found
        return generator, disc_loss, pull, judged | {"disc_loss": disc_loss}
