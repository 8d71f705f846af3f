"""CLIP's objective: each image finds its caption in the batch, each caption its image.

Radford et al. 2021, section 2.3. Two of a batch whose captions read alike are both
right for each other: with few concepts a batch has such pairs nearly always, and they
would be pushed apart for nothing.
"""

import jax
import jax.numpy as jnp
from jax import Array

from cogjax.models.clip import MAX_SCALE, Clip, ClipConfig, matrix_axes, normalized
from cogjax.ops import losses
from cogjax.tasks.tokenizer import image_spec
from cogjax.train.task import Task


class ContrastiveTask(Task):
    """Task over batches {"image": uint8 [b, y, x, 3], "ids": int32 [b, t]}.

    ids: captions as of `data/sequences.py::bracketed`. On a mesh the captions of all
    devices compete, as if the batch were on one.
    """

    matrix_axes = staticmethod(matrix_axes)

    def __init__(self, config: ClipConfig):
        self.config, self.model = config, Clip(config)

    def init(self, key: Array):
        """Returns (params, state) of a new run; there is no state."""
        batch = self.batch_spec(1)
        images, ids = (jnp.zeros(x.shape, x.dtype) for x in batch.values())
        return self.model.init(key, self._pixels(images), ids)["params"], {}

    def loss(self, params, state, batch, key: Array):
        """One training forward pass: (loss, (state, metrics))."""
        del key
        metrics = self._metrics(params, batch)
        loss = metrics.pop("loss")
        scale = losses.bounded_exp(params["logit_scale"], MAX_SCALE)
        return loss, (state, metrics | {"scale": scale})

    def eval_metrics(self, params, state, batch, key: Array):
        """Loss, and the share of a batch's images and captions that find each other."""
        del state, key
        return self._metrics(params, batch)

    def batch_spec(self, size: int):
        """Images of the network's size, captions of its length."""
        ids = jax.ShapeDtypeStruct((size, self.config.text_len), jnp.int32)
        return {**image_spec(size, self.config.image_size), "ids": ids}

    def _pixels(self, images: Array) -> Array:
        return normalized(self.config, images.astype(jnp.float32) / 255)

    def _metrics(self, params, batch) -> dict[str, Array]:
        ids = batch["ids"]
        images = self._pixels(batch["image"])
        logits = self.model.apply({"params": params}, images, ids)  # [b, b]
        same = jnp.all(ids[:, None] == ids[None], axis=-1)  # [b, b]
        return {
            "loss": losses.contrastive(logits, same),
            "image_to_text": _found(logits, same),
            "text_to_image": _found(logits.T, same),
        }


def _found(logits: Array, same: Array) -> Array:
    """Share of rows whose highest logit is right."""
    best = jnp.argmax(logits, axis=1)
    return jnp.mean(jnp.take_along_axis(same, best[:, None], axis=1))
