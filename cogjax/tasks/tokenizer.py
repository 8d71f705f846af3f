"""Training an image tokenizer: how its images compare, and a codebook.

    tokenizer:      comparison + codebook_weight * codebook
    discriminator:  hinge of D(x) and D(x^), where there is one

Without an `ImageLoss` the comparison is the mean squared error of pixels in [0, 1]
(CogView, Ding et al. 2021, section 2.2). With one it is that of VQGAN (Esser et al.
2021, arXiv 2012.09841, sections 3.1 and A). Both networks are then updated at once from
one backward pass: the gradient of the first line stops at D's weights and that of the
second at the tokenizer's. taming alternates: it updates the tokenizer, generates again,
and then shows D these newer images. One optimiser with one clip serves both: set
`optim.clip` to 0, or the norms of both count together.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from cogjax.models.registry import network_of
from cogjax.models.tokenizers import TokenizerConfig
from cogjax.tasks.codebook import Codebook, CodebookConfig
from cogjax.tasks.image_loss import ImageLoss
from cogjax.train.task import Task


class TokenizerTask(Task):
    """Task over batches {"image": uint8 [b, y, x, 3]}.

    Parameters are the tokenizer's, "net", a learnt "codebook", and with an image loss
    those of the "discriminator".
    """

    counters = ("step",)

    def __init__(
        self,
        model: TokenizerConfig,
        config: CodebookConfig,
        image_loss: ImageLoss | None = None,
        codebook_weight: float = 1.0,
    ):
        self.model, self.config = network_of(model), config
        self.image_loss, self._codebook_weight = image_loss, codebook_weight
        self.codes = Codebook(self.model, config)

    def init(self, key: Array):
        """Returns (params, state): networks and learnt codebook; usage statistics."""
        params, state = self.codes.init(key)
        if self.image_loss:
            params["discriminator"] = self.image_loss.init(jax.random.fold_in(key, 1))
        return params, state

    def start_at(self, net: Any, codebook: Array, batch_size: int):
        """What they replace of `init`'s (params, state): `Codebook.start_at`."""
        return self.codes.start_at(net, codebook, batch_size)

    def codebook(self, params, state) -> Array:
        """The codebook in use, [k, z]."""
        return self.codes.vectors(params, state)

    def network(self, params, state) -> Any:
        """Parameters of the tokenizer's network."""
        del state
        return params["net"]

    def loss(self, params, state, batch, key: Array):
        """One training forward pass: (loss, (new state, metrics))."""
        images = batch["image"].astype(jnp.float32) / 255  # [b, y, x, 3] in [0, 1]
        net, step = {"params": params["net"]}, state["step"]
        z = self.model.apply(net, images, method="encode")  # [b, grid, grid, z]
        quantized, state, metrics = self.codes.quantize(params, state, z, key)
        loss, parts = self._compare(params, step, images, quantized)
        loss += self._codebook_weight * metrics["codebook_loss"]
        return loss, (state, {**metrics, **parts})

    def _compare(self, params, step, images: Array, quantized: Array):
        """(loss of the decoded images, and of the discriminator; metrics)."""
        net = {"params": params["net"]}
        if not self.image_loss:
            decoded = self.model.apply(net, quantized, method="decode")
            error = jnp.mean(jnp.square(decoded - images))
            return error, {"l2": error}
        hidden, decoded = self.model.apply(net, quantized, method="decode_parts")
        discriminator = params["discriminator"]
        return self.image_loss(discriminator, step, images, hidden, decoded)

    def eval_metrics(self, params, state, batch, key: Array):
        """Reconstruction through the best code: l2, psnr (dB), usage.

        With an image loss also l1 and lpips.
        """
        del key
        images = batch["image"].astype(jnp.float32) / 255
        decoded, metrics = self.codes.reconstruct(params, state, images)
        if not self.image_loss:
            return metrics
        distance = self.image_loss.distance(2 * decoded - 1, 2 * images - 1)
        return metrics | distance[1]

    def batch_spec(self, size: int):
        """Images of the network's size."""
        return image_spec(size, self.model.config.image_size)


def image_spec(size: int, image_size: int) -> dict[str, jax.ShapeDtypeStruct]:
    """A batch {"image": uint8 [size, y, x, 3]} of square images."""
    shape = (size, image_size, image_size, 3)
    return {"image": jax.ShapeDtypeStruct(shape, jnp.uint8)}
