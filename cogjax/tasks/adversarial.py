"""What a discriminator adds to the loss of a network that makes images.

Esser et al. 2021 (arXiv 2012.09841), section 3.1 and A:

    images          weight * (-D(x^))
    discriminator   hinge of D(x) and D(x^)

    weight = disc_weight * |grad rest| / (|grad (-D(x^))| + 1e-4)

with both gradients at the kernel of the last convolution, `rest` the other terms.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array

from cogjax.models.discriminator import Discriminator, DiscriminatorConfig
from cogjax.ops import adversarial


@dataclass(frozen=True)
class AdversarialConfig:
    """Settings of the discriminator and its weight; defaults are taming's.

    disc_start: first step with the discriminator. disc_weight: 0 is none at all.
    disc_layers, disc_width: of the discriminator. adaptive: False is weight 1 in place
    of the ratio of gradients.
    """

    disc_start: int = 30_001
    disc_weight: float = 1.0
    disc_layers: int = 3
    disc_width: int = 64
    adaptive: bool = True

    def __post_init__(self):
        if min(self.disc_weight, self.disc_start) < 0:
            raise ValueError("weights and disc_start must not be negative")
        if min(self.disc_layers, self.disc_width) < 1:
            raise ValueError("disc_layers and disc_width must be above 0")


class AdversarialLoss:
    """A discriminator, `network`, and its terms in the losses of both networks."""

    def __init__(self, config: AdversarialConfig, image_size: int, side: int = 3):
        """side: of the kernel of the image network's last convolution.

        ValueError for more layers than can halve images of so many pixels a side.
        """
        sizes = DiscriminatorConfig(config.disc_layers, config.disc_width)
        unit = 2**config.disc_layers
        fits = sizes.patches(image_size) >= 1 and not image_size % unit
        if config.disc_weight and not fits:
            raise ValueError(
                f"disc_layers {config.disc_layers} is too many for pictures of "
                f"{image_size} px, which must be a multiple of {unit} and at least "
                f"{3 * unit}: choose fewer"
            )
        self.config, self.network = config, Discriminator(sizes)
        self._size, self._side = image_size, side

    def init(self, key: Array):
        """Parameters of the discriminator, none at weight 0."""
        if not self.config.disc_weight:
            return {}
        image = jnp.zeros((1, self._size, self._size, 3))
        return self.network.init(key, image)["params"]

    def __call__(self, disc, step, real, fake, hidden, recon_grad):
        """What the discriminator, of parameters `disc`, adds from `disc_start` on.

        Args:
          real, fake: pixels about [-1, 1] [b, y, x, 3], without gradient.
          hidden: what the last convolution of the image network reads, [b, y, x, c].
          recon_grad: gradient of its other terms at the fake pixels, [b, y, x, 3].

        Returns:
          (term of the image network, loss of the discriminator, gradient at the fake
          pixels of all terms of the image network, metrics).
        """
        cfg = self.config

        def logits(params, pixels):
            return self.network.apply({"params": params}, pixels)

        def active():
            frozen = jax.lax.stop_gradient(disc)
            score, adv_grad = jax.value_and_grad(
                lambda pixels: -jnp.mean(logits(frozen, pixels))
            )(fake)
            weight = cfg.disc_weight * self._ratio(hidden, recon_grad, adv_grad)
            of_real, of_fake = logits(disc, real), logits(disc, fake)
            disc_loss = adversarial.hinge(of_real, of_fake)
            metrics = {
                "disc_weight": weight,
                "logits_real": jnp.mean(of_real),
                "logits_fake": jnp.mean(of_fake),
            }
            return weight * score, disc_loss, recon_grad + weight * adv_grad, metrics

        def inactive():
            zero = jnp.zeros(())
            names = ("disc_weight", "logits_real", "logits_fake")
            return zero, zero, recon_grad, dict.fromkeys(names, zero)

        if not cfg.disc_weight:
            found = inactive()
        else:
            found = jax.lax.cond(step >= cfg.disc_start, active, inactive)
        term, disc_loss, grad, metrics = found
        return term, disc_loss, grad, metrics | {"disc_loss": disc_loss}

    def _ratio(self, hidden, recon_grad, adv_grad) -> Array:
        """Adaptive weight, in [0, 1e4], of gradients at the pixels."""
        if not self.config.adaptive:
            return jnp.ones(())
        inputs = jax.lax.stop_gradient(hidden)
        return adversarial.adaptive_weight(
            adversarial.kernel_gradient(inputs, recon_grad, self._side),
            adversarial.kernel_gradient(inputs, adv_grad, self._side),
        )
