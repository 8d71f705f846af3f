"""LlamaGen's objective of captions: the codes of an image after vectors of its text."""

import jax
import jax.numpy as jnp
from jax import Array

from cogjax.models.image_lm import Training
from cogjax.ops import losses
from cogjax.tasks.transformer import TransformerTask
from cogjax.train.task import Cost, Pass


class CaptionTask(TransformerTask):
    """Task over batches of captions and the codes of their images.

    "vectors": bfloat16 [b, n, f], a caption's at the end. "count": int32 [b], how many
    of them there are. "left_out": bool [b], to be read as no caption. "codes": int32
    [b, m]. The loss is the mean cross-entropy of the codes. The vectors of no caption
    are not learnt, as in the release.
    """

    def loss(self, params, state, batch, key: Array):
        """One training forward pass: (loss, (state, metrics))."""
        return self._loss(params, batch, key), (state, {})

    def eval_metrics(self, params, state, batch, key: Array):
        """The loss without dropout, in nats a code."""
        del state, key
        return {"loss": self._loss(params, batch, None)}

    def _loss(self, params, batch, key: Array | None) -> Array:
        codes, count = batch["codes"], batch["count"]
        null = jax.lax.stop_gradient(params["null_caption"])
        left_out = batch["left_out"][:, None, None]
        vectors = jnp.where(left_out, null, batch["vectors"].astype(jnp.float32))
        length = vectors.shape[1]
        # The last code is only a target.
        positions = jnp.arange(length + codes.shape[1] - 1)
        (logits,), _ = self.model.apply(
            {"params": params},
            (vectors, codes[:, :-1]),
            jnp.broadcast_to(positions, (len(codes), len(positions))),
            jnp.arange(length) >= length - count[:, None],
            training=Training(key),
            parts=((slice(length - 1, None), slice(None)),),
        )
        return jnp.mean(losses.token_losses(logits, codes))

    def batch_spec(self, size: int):
        """Captions, their lengths, and codes."""
        config = self.config
        shape = size, config.table_positions, config.caption_dim
        return {
            "vectors": jax.ShapeDtypeStruct(shape, jnp.bfloat16),
            "count": jax.ShapeDtypeStruct((size,), jnp.int32),
            "left_out": jax.ShapeDtypeStruct((size,), jnp.bool_),
            "codes": jax.ShapeDtypeStruct((size, config.grid**2), jnp.int32),
        }

    def cost(self) -> Cost:
        """One pass, of which the codes are scored."""
        scored = self.config.grid**2 * self.config.outputs
        length = self.config.max_positions - 1
        return Cost((Pass(self.config, length, scored, scored),))
