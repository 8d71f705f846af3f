"""Training the decoder of a tokenizer anew, its codes as they are.

The images of a decoder that is trained by the squared error alone are blurry (CogView,
Ding et al. 2021, section 2.2). With encoder and codebook held fixed, a decoder whose
loss is also of LPIPS and a discriminator (`tasks/image_loss.py`) serves every model
that was trained on the codes. Ours.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from cogjax.errors import UserError
from cogjax.models.reconstructor import (
    DECODERS,
    decoder_of,
    with_decoder,
    without_decoder,
)
from cogjax.models.registry import kind_of, network_of
from cogjax.models.tokenizers import TokenizerConfig
from cogjax.ops import losses
from cogjax.tasks.image_loss import ImageLoss, ImageLossConfig
from cogjax.tasks.tokenizer import image_spec
from cogjax.train.task import Task


@dataclass(frozen=True)
class DecoderConfig(ImageLossConfig):
    """Objective of the decoder: how its images are compared."""


class DecoderTask(Task):
    """Task over batches {"image": uint8 [b, y, x, 3]}.

    Parameters are the decoder's, "net", as `decoder_of` gives them, and the
    discriminator's; the state holds the encoder, "net", and the codebook, which stay.
    params, codebook: of the trained tokenizer, numpy arrays. lpips: of `ImageLoss`.
    """

    counters = ("step",)

    def __init__(
        self,
        tokenizer: TokenizerConfig,
        params: Any,
        codebook: Array,
        config: DecoderConfig,
        lpips: Any = None,
    ):
        kind = DECODERS[kind_of(tokenizer)]
        if not kind.side:
            raise UserError(
                f"the decoder of a {kind_of(tokenizer)} predicts a distribution of "
                "pixels and cannot be trained anew: give a tokenizer of another kind"
            )
        self.model, self.config = network_of(tokenizer), config
        self._decoder = kind.make(tokenizer, None)
        side = kind.side(tokenizer)
        self._image_loss = ImageLoss(config, tokenizer.image_size, side, lpips)
        self.start = params, codebook

    def init(self, key: Array):
        """Returns (params, state), the network as it was trained before."""
        params, codebook = jax.tree.map(jnp.asarray, self.start)
        net = decoder_of(self.model.config, params)
        learnt = {"net": net, "discriminator": self._image_loss.init(key)}
        kept = without_decoder(self.model.config, params)
        state = {"net": kept, "codebook": codebook, "step": jnp.zeros((), jnp.int32)}
        return learnt, state

    def network(self, params, state) -> Any:
        """Parameters of the whole tokenizer's network."""
        return with_decoder(self.model.config, state["net"], params["net"])

    def codebook(self, params, state) -> Array:
        """The codebook, [k, z]."""
        del params
        return state["codebook"]

    def loss(self, params, state, batch, key: Array):
        """One training forward pass: (loss, (new state, metrics))."""
        del key
        images = batch["image"].astype(jnp.float32) / 255
        hidden, decoded = self._decode(params, state, images)
        loss, metrics = self._image_loss(
            params["discriminator"], state["step"], images, hidden, decoded
        )
        return loss, ({**state, "step": state["step"] + 1}, metrics)

    def eval_metrics(self, params, state, batch, key: Array):
        """psnr (dB), l1 and lpips of the clipped images."""
        del key
        images = batch["image"].astype(jnp.float32) / 255
        decoded = jnp.clip(self._decode(params, state, images)[1], -1, 1)
        errors = jnp.mean(jnp.square(decoded / 2 + 0.5 - images), axis=(1, 2, 3))
        metrics = {"psnr": jnp.mean(losses.psnr(errors))}
        return metrics | self._image_loss.distance(decoded, 2 * images - 1)[1]

    def batch_spec(self, size: int):
        """Images of the tokenizer's size."""
        return image_spec(size, self.model.config.image_size)

    def _decode(self, params, state, images: Array) -> tuple[Array, Array]:
        """(input of the last convolution, pixels about [-1, 1]) through the codes."""
        net, codebook = {"params": state["net"]}, state["codebook"]
        z = self.model.apply(net, images, method="encode")
        logits = self.model.apply(net, z, codebook, method="code_logits")
        codes = codebook[jnp.argmax(logits, axis=-1)]
        return self._decoder.apply({"params": params["net"]}, codes)
