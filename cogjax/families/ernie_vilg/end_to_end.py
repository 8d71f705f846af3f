"""ERNIE-ViLG end to end: generator and reconstructor in one step (section 3.2).

    L = L_text_to_image + L_image_to_text + weight * L_reconstruction

The reconstructor draws the picture from the last layer's states of its codes, instead
of from the codes, so that its loss reaches the transformer. The paper weighs the losses
1 : 1 and says neither which norm nor over what it is averaged:

    L_reconstruction = factor * (pixels + perceptual * LPIPS + w * -D(x^))

pixels: mean over all values of a picture of |x - y|, (x - y)^2 or DALL-E's negative
log-likelihood. factor: with `reduction` "code" the number of codes, so that the part of
a picture that a code stands for weighs as the loss of that code does at any size;
"sum" the number of values, which makes logit-Laplace the likelihood of the picture; or
"mean", 1. The discriminator D, whose own loss is added too, and its weight w are those
of `tasks/adversarial.py`: the paper left it out for fear of instability.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from cogjax.data.vocab import Vocab
from cogjax.families.ernie_vilg.bidirectional import TwoWayTask
from cogjax.families.ernie_vilg.layout import TwoWayLayout, TwoWayMixture
from cogjax.models import image_lm, reconstructor
from cogjax.models.image_lm_config import ImageLMConfig
from cogjax.models.reconstructor import (
    Reconstructor,
    ReconstructorConfig,
    ReconstructorNetworkConfig,
)
from cogjax.models.registry import kind_of
from cogjax.models.tokenizers import TokenizerConfig
from cogjax.models.vgg import mean_lpips
from cogjax.ops import adversarial, losses
from cogjax.tasks import resblock_scales
from cogjax.tasks.adversarial import AdversarialConfig, AdversarialLoss
from cogjax.tasks.tokenizer import image_spec
from cogjax.train.task import Cost, Extra, Task


@dataclass(frozen=True)
class EndToEndConfig(TwoWayMixture, AdversarialConfig):
    """Objective, and how examples are drawn.

    end_to_end: False stops the gradient at the states: two stages in one run, of a
    transformer that knows nothing of pixels and a reconstructor that reads it. weight:
    of the reconstruction. pixels: its norm; "logit_laplace" is that of the kind "dvae".
    reduction: factor of its mean (see above), the number of codes, of values, or 1.
    perceptual: weight of LPIPS in it, 0 is off. start: of the reconstructor, at random;
    or the decoder from the image tokenizer's, and a map with a softmax from the
    transformer's head and the codebook. There is no discriminator unless `disc_weight`
    is above 0.
    """

    reconstructor: ReconstructorConfig = ReconstructorConfig()
    end_to_end: bool = True
    weight: float = 1.0
    pixels: Literal["l1", "l2", "logit_laplace"] = "l1"
    reduction: Literal["code", "sum", "mean"] = "code"
    perceptual: float = 0.0
    start: Literal["random", "tokenizer"] = "random"
    disc_weight: float = 0.0
    disc_start: int = 0

    def __post_init__(self):
        TwoWayMixture.__post_init__(self)
        AdversarialConfig.__post_init__(self)
        kind = self.reconstructor.kind
        if self.pixels == "logit_laplace" and kind != "dvae":
            raise ValueError(
                "pixels 'logit_laplace' needs reconstructor.kind 'dvae', which alone "
                f"has a scale for each pixel, got {kind!r}"
            )
        if self.disc_weight and not reconstructor.DECODERS[kind].side:
            kinds = [name for name, each in reconstructor.DECODERS.items() if each.side]
            raise ValueError(
                "disc_weight needs reconstructor.kind "
                f"{' or '.join(map(repr, kinds))}, got {kind!r}"
            )
        if min(self.weight, self.perceptual) < 0:
            raise ValueError("weights and disc_start must not be negative")

    def example(
        self,
        layout: TwoWayLayout,
        texts: Sequence[Sequence[int]],
        codes: np.ndarray,
        image: np.ndarray,
        rng: np.random.Generator,
    ) -> dict[str, np.ndarray]:
        """As `TwoWayMixture`, and "image", uint8 [y, x, 3]."""
        return {**super().example(layout, texts, codes, rng), "image": image}


class EndToEndTask(Task):
    """Task over batches of `TwoWayTask` and {"image": uint8 [b, y, x, 3]}.

    Parameters are {"transformer": ..., "reconstructor": ...}, with a discriminator
    {"discriminator": ...} too, and then the state counts the steps.
    """

    matrix_axes = staticmethod(image_lm.matrix_axes)
    param_axes = image_lm.PARAM_AXES + reconstructor.PARAM_AXES

    def __init__(
        self,
        model: ImageLMConfig,
        vocab: Vocab,
        tokenizer: TokenizerConfig,
        config: EndToEndConfig,
        lpips: Any = None,
    ):
        """tokenizer: config of the image tokenizer.

        lpips: numpy parameters of `Vgg16Lpips`, if `perceptual` is not 0.
        Raises ValueError for a reconstructor that does not fit the tokenizer.
        """
        weights = config.text_weight, config.answer_weight
        self.generation = TwoWayTask(model, vocab, *weights)
        self.model, self.config = self.generation.model, config
        network = ReconstructorNetworkConfig(
            config.reconstructor, tokenizer, model.width
        )
        self.reconstructor = Reconstructor(network)
        kind = config.reconstructor.kind
        if config.start == "tokenizer" and kind != kind_of(tokenizer):
            raise ValueError(
                f"start 'tokenizer' needs reconstructor.kind {kind_of(tokenizer)!r}, "
                f"which the image tokenizer is, got {kind!r}"
            )
        self._lpips = lpips if config.perceptual else None
        self._adversary = None
        if config.disc_weight:
            side = reconstructor.DECODERS[kind].side(tokenizer)
            self._adversary = AdversarialLoss(config, tokenizer.image_size, side)
            self.counters = ("step",)
        self.loss_scale = self.generation.loss_scale
        # Fails here for a decoder that cannot be.
        reconstructor.param_shapes(network)

    def init(self, key: Array):
        """Returns (params, state); the state holds the resblocks' gradient scales."""
        lm_key, reconstructor_key, disc_key = jax.random.split(key, 3)
        transformer, state = self.generation.init(lm_key)
        network = self.reconstructor.config
        states = jnp.zeros((1, network.tokenizer.grid**2, network.states_width))
        decoder = self.reconstructor.init(reconstructor_key, states)["params"]
        params = {"transformer": transformer, "reconstructor": decoder}
        if self._adversary:
            params["discriminator"] = self._adversary.init(disc_key)
            state = {**state, "step": jnp.zeros((), jnp.int32)}
        return params, state

    def loss(self, params, state, batch, key: Array):
        """One training forward pass of all three: (loss, (state, metrics))."""
        steps, held = _parted(state)
        transformer, scales = resblock_scales.scale(
            params["transformer"], held, len(batch["image"])
        )
        params = {**params, "transformer": transformer}
        loss, metrics = self._all(params, batch, key, scales, steps.get("step"))
        steps = {name: count + 1 for name, count in steps.items()}
        return loss, ({**state, **steps}, metrics | resblock_scales.metrics(held))

    def eval_metrics(self, params, state, batch, key: Array):
        """As of `TwoWayTask`; of the pictures the mean error and the PSNR in dB."""
        del key
        step = _parted(state)[0].get("step")
        loss, metrics = self._all(params, batch, None, None, step)
        return {"loss": loss, **metrics}

    def weights(self, batch) -> dict[str, Array]:
        """As of `TwoWayTask`; the pictures' means are over pictures of one size."""
        return self.generation.weights(batch)

    def after_gradients(self, state, grads):
        """As of `TwoWayTask`, by the transformer's gradients."""
        steps, scales = _parted(state)
        scales, searching = self.generation.after_gradients(
            scales, grads["transformer"]
        )
        return {**scales, **steps}, searching

    def batch_spec(self, size: int):
        """As of `TwoWayTask`, and the images."""
        images = image_spec(size, self.reconstructor.config.tokenizer.image_size)
        return self.generation.batch_spec(size) | images

    def cost(self) -> Cost:
        """As of `TwoWayTask`, and the reconstructor beside the transformer."""
        read_last = self.config.reconstructor.states == "at"
        passes = self.generation.cost(read_last).passes
        params, state = jax.eval_shape(self.init, jax.random.key(0))
        params = {name: part for name, part in params.items() if name != "transformer"}
        num_codes = self.generation.num_codes
        states = jax.ShapeDtypeStruct(
            (1, num_codes, self.model.config.width), self.model.config.dtype
        )
        image = self.batch_spec(1)["image"]

        def loss(params, states, image, step):
            total, disc_loss, _ = self.reconstruction(params, states, image, step)
            return total + disc_loss

        args = params, states, image, state.get("step")
        # Stopped at the states, it needs no gradient of them.
        argnums = (0, 1) if self.config.end_to_end else (0,)
        return Cost(passes, Extra(loss, args, argnums))

    def _all(self, params, batch, key, scales, step):
        """(loss, metrics)."""
        generation, metrics, states = self.generation.both(
            params["transformer"],
            batch,
            key,
            scales,
            at_codes=self.config.reconstructor.states == "at",
        )
        reconstruction, disc_loss, more = self.reconstruction(
            params, states, batch["image"], step
        )
        loss = generation + self.config.weight * reconstruction + disc_loss
        return loss, {**metrics, "generation": generation, **more}

    def reconstruction(self, params, states: Array, images: Array, step=None):
        """Loss of states [b, n, d] for the pictures uint8 [b, y, x, 3].

        Returns (loss, that of the discriminator, metrics).
        """
        cfg = self.config
        if not cfg.end_to_end:
            states = jax.lax.stop_gradient(states)
        images = images.astype(jnp.float32) / 255
        last, maps = self._decode(params["reconstructor"], states)
        factor = {"code": states.shape[1], "sum": images[0].size, "mean": 1}
        (total, metrics), disc_loss = self._distance(maps, images), jnp.zeros(())
        if self._adversary:
            total, disc_loss, more = self._adversarial(
                params["discriminator"], step, images, last, maps
            )
            metrics |= more
        total *= factor[cfg.reduction]
        return total, disc_loss, {**metrics, "reconstruction": total}

    def _adversarial(self, disc, step, images, last, maps):
        """(all terms of the reconstructor, the discriminator's loss, metrics)."""
        real, fake = 2 * images - 1, jax.lax.stop_gradient(maps)
        distance, recon_grad = jax.value_and_grad(
            lambda x: self._distance(x, images)[0]
        )(fake)
        term, disc_loss, grad, metrics = self._adversary(
            disc, step, real, fake, last, recon_grad
        )
        total = adversarial.with_gradient(distance + term, maps, grad)
        return total, disc_loss, metrics

    def _distance(self, maps: Array, images: Array):
        """(mean error and weighted LPIPS, metrics)."""
        pixels = self.reconstructor.pixels(maps)
        error = pixel_error(self.config.pixels, maps, pixels, images)
        metrics = {"pixels": error, "psnr": _psnr(pixels, images)}
        if self.config.perceptual:
            metrics["lpips"] = self._perceptual(pixels, images)
            error += self.config.perceptual * metrics["lpips"]
        return error, metrics

    def _perceptual(self, pixels: Array, images: Array) -> Array:
        """Mean LPIPS of pixels in [0, 1]."""
        if self._lpips is None:
            raise ValueError("perceptual is above 0, and lpips is None")
        return mean_lpips(self._lpips, 2 * pixels - 1, 2 * images - 1)

    def _decode(self, params, states: Array) -> tuple[Array | None, Array]:
        """The reconstructor, computed again for the gradient if layers are."""

        def run(params, states):
            return self.reconstructor.apply({"params": params}, states)

        if self.model.config.remat != "none":
            run = jax.checkpoint(run)
        return run(params, states)


def _parted(state):
    """(the count of steps if there is one, the rest) of a task's state."""
    rest = {name: leaf for name, leaf in state.items() if name != "step"}
    return {name: state[name] for name in state if name == "step"}, rest


def pixel_error(norm: str, maps: Array, pixels: Array, images: Array) -> Array:
    """Mean over all values: maps [b, y, x, c], the pixels of these, pictures."""
    if norm == "l1":
        return jnp.mean(jnp.abs(pixels - images))
    if norm == "l2":
        return jnp.mean(jnp.square(pixels - images))
    mean, log_scale = jnp.split(maps, 2, axis=-1)
    return jnp.mean(losses.logit_laplace(images, mean, log_scale))


def _psnr(pixels: Array, images: Array) -> Array:
    """Mean over pictures, dB."""
    squares = jnp.square(jnp.clip(pixels, 0, 1) - images)
    return jnp.mean(losses.psnr(jnp.mean(squares, axis=(1, 2, 3))))
