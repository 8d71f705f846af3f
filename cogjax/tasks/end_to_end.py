"""ERNIE-ViLG end to end: generator and reconstructor in one step (section 3.2).

    L = L_text_to_image + L_image_to_text + weight * L_reconstruction

The reconstructor draws the picture from the last layer's states of its codes, instead
of from the codes, so that its loss reaches the transformer. The paper weighs the losses
1 : 1 and says neither which norm nor over what it is averaged:

    L_reconstruction = factor * (pixels + perceptual * LPIPS)

pixels: mean over all values of a picture of |x - y|, (x - y)^2 or DALL-E's negative
log-likelihood. factor: with `reduction` "code" the number of codes, so that the part of
a picture that a code stands for weighs as the loss of that code does at any size;
"sum" the number of values, which makes logit-Laplace the likelihood of the picture; or
"mean", 1.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from cogjax.data.two_way import TwoWayLayout, TwoWayMixture
from cogjax.data.vocab import Vocab
from cogjax.models import image_lm, reconstructor
from cogjax.models.image_lm import ImageLMConfig
from cogjax.models.reconstructor import Reconstructor, ReconstructorConfig
from cogjax.ops import losses
from cogjax.tasks import branches
from cogjax.tasks.two_way import TwoWayTask


@dataclass(frozen=True)
class EndToEndConfig(TwoWayMixture):
    """Objective, and how examples are drawn.

    end_to_end: False stops the gradient at the states: two stages in one run, of a
    transformer that knows nothing of pixels and a reconstructor that reads it. weight:
    of the reconstruction. pixels: its norm; "logit_laplace" is that of the kind "dvae".
    perceptual: weight of LPIPS in it, 0 is off. start: of the reconstructor's decoder,
    at random or from that of the image tokenizer.
    """

    reconstructor: ReconstructorConfig = ReconstructorConfig()
    end_to_end: bool = True
    weight: float = 1.0
    pixels: Literal["l1", "l2", "logit_laplace"] = "l1"
    reduction: Literal["code", "sum", "mean"] = "code"
    perceptual: float = 0.0
    start: Literal["random", "tokenizer"] = "random"

    def __post_init__(self):
        kind = self.reconstructor.kind
        if self.pixels == "logit_laplace" and kind != "dvae":
            raise ValueError(
                "pixels 'logit_laplace' needs reconstructor.kind 'dvae', which alone "
                f"has a scale for each pixel, got {kind!r}"
            )
        if self.start == "tokenizer" and kind == "dvae":
            raise ValueError(
                "start 'tokenizer' needs a reconstructor.kind that a tokenizer has, "
                f"got {kind!r}"
            )
        if self.weight < 0 or self.perceptual < 0:
            raise ValueError("weight and perceptual must not be negative")

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


# (pixels [b, y, x, 3], pixels of the batch) -> LPIPS [b], both in [0, 1].
Perceptual = Callable[[Array, Array], Array]


class EndToEndTask:
    """Task over batches of `TwoWayTask` and {"image": uint8 [b, y, x, 3]}.

    Parameters are {"transformer": ..., "reconstructor": ...}.
    """

    matrix_axes = staticmethod(image_lm.matrix_axes)
    param_axes = image_lm.PARAM_AXES + reconstructor.PARAM_AXES

    def __init__(
        self,
        model: ImageLMConfig,
        vocab: Vocab,
        tokenizer: Any,
        config: EndToEndConfig,
        perceptual: Perceptual | None = None,
    ):
        """tokenizer: config of the image tokenizer. perceptual: if its weight is not 0.

        Raises ValueError for a reconstructor that does not fit the tokenizer.
        """
        self.generation = TwoWayTask(model, vocab)
        self.model, self.config = self.generation.model, config
        self.reconstructor = Reconstructor(config.reconstructor, tokenizer)
        self.perceptual = perceptual if config.perceptual else None
        self.loss_scale = self.generation.loss_scale
        # Fails here for a decoder that cannot be.
        reconstructor.param_shapes(config.reconstructor, tokenizer, model.width)

    def init(self, key: Array):
        """Returns (params, state); the state holds the resblocks' gradient scales."""
        lm_key, reconstructor_key = jax.random.split(key)
        params, state = self.generation.init(lm_key)
        cfg = self.model.config
        states = jnp.zeros((1, self.reconstructor.tokenizer.grid**2, cfg.width))
        decoder = self.reconstructor.init(reconstructor_key, states)["params"]
        return {"transformer": params, "reconstructor": decoder}, state

    def loss(self, params, state, batch, key: Array):
        """One training forward pass of all three: (loss, (state, metrics))."""
        lm, scales = branches.scale(params["transformer"], state, len(batch["image"]))
        keys = jax.random.split(key)
        loss, metrics = self._all({**params, "transformer": lm}, batch, keys, scales)
        return loss, (state, metrics | branches.metrics(state))

    def eval_metrics(self, params, state, batch, key: Array):
        """As of `TwoWayTask`; of the pictures the mean error and the PSNR in dB."""
        del state, key
        loss, metrics = self._all(params, batch, (None, None), None)
        return {"loss": loss, **metrics}

    @staticmethod
    def rescale(state, grads):
        """As `branches.rescale`, of the transformer's gradients."""
        return branches.rescale(state, grads["transformer"])

    def _all(self, params, batch, keys, scales):
        """(loss, metrics)."""
        generation, metrics, states = self.generation.both(
            params["transformer"],
            batch,
            keys,
            scales,
            at_codes=self.config.reconstructor.states == "at",
        )
        reconstruction, more = self.reconstruction(
            params["reconstructor"], states, batch["image"]
        )
        loss = generation + self.config.weight * reconstruction
        return loss, {**metrics, "generation": generation, **more}

    def reconstruction(self, params, states: Array, images: Array):
        """(loss, metrics) of states [b, n, d] for the pictures uint8 [b, y, x, 3]."""
        cfg = self.config
        if not cfg.end_to_end:
            states = jax.lax.stop_gradient(states)
        images = images.astype(jnp.float32) / 255
        maps = self._decode(params, states)
        pixels = self.reconstructor.pixels(maps)
        error = pixel_error(cfg.pixels, maps, pixels, images)
        total = error
        metrics = {"pixels": error, "psnr": _psnr(pixels, images)}
        if self.perceptual:
            metrics["lpips"] = jnp.mean(self.perceptual(pixels, images))
            total += cfg.perceptual * metrics["lpips"]
        num_values = images[0].size
        factor = {"code": states.shape[1], "sum": num_values, "mean": 1}[cfg.reduction]
        metrics["reconstruction"] = factor * total
        return factor * total, metrics

    def _decode(self, params, states: Array) -> Array:
        """Maps of the reconstructor, computed again for the gradient as layers are."""

        def run(params, states):
            return self.reconstructor.apply({"params": params}, states)

        if self.model.config.remat != "none":
            run = jax.checkpoint(run)
        return run(params, states)


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
