"""Training the transformer: next-token cross-entropy in both directions."""

import jax.numpy as jnp
from jax import Array

from cogjax.models.image_lm import ImageLM, ImageLMConfig, matrix_axes
from cogjax.ops import losses


class LMTask:
    """Task over batches {"ids": int32 [b, t], "weights": float32 [b, t]}.

    weights[:, i] weighs the prediction of ids[:, i]; the loss is the weighted mean
    over the batch, over the whole padded vocabulary, in float32 (CogView's release).
    """

    matrix_axes = staticmethod(matrix_axes)

    def __init__(self, model: ImageLMConfig, num_codes: int):
        """num_codes: ids below are image codes, which splits the metrics."""
        self.model = ImageLM(model)
        self.num_codes = num_codes

    def init(self, key: Array):
        """Returns (params, state); there is no state."""
        ids = jnp.zeros((1, 2), jnp.int32)
        return self.model.init(key, ids, ids)["params"], {}

    def loss(self, params, state, batch, key: Array):
        """One training forward pass: (loss, (state, metrics))."""
        values, weights, metrics = self._losses(params, batch, key)
        return losses.weighted_mean(values, weights), (state, metrics)

    def eval_metrics(self, params, state, batch, key: Array):
        """Losses without dropout, in nats a token."""
        del state, key
        values, weights, metrics = self._losses(params, batch, None)
        return {"loss": losses.weighted_mean(values, weights), **metrics}

    def _losses(self, params, batch, key):
        ids, weights = batch["ids"], batch["weights"][:, 1:]
        inputs, targets = ids[:, :-1], ids[:, 1:]
        positions = jnp.broadcast_to(jnp.arange(inputs.shape[1]), inputs.shape)
        logits, _ = self.model.apply({"params": params}, inputs, positions, key=key)
        values = losses.token_losses(logits, targets)
        of_image = weights * (targets < self.num_codes)
        metrics = {
            "image_loss": losses.weighted_mean(values, of_image),
            "text_loss": losses.weighted_mean(values, weights - of_image),
        }
        return values, weights, metrics
