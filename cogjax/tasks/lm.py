"""Training the transformer: next-token cross-entropy in both directions."""

from collections.abc import Mapping
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from cogjax.models.image_lm import Training
from cogjax.models.image_lm_config import ImageLMConfig
from cogjax.ops import losses
from cogjax.ops.pivot_attention import random_codes
from cogjax.tasks import resblock_scales
from cogjax.tasks.transformer import TransformerTask
from cogjax.train.task import Cost, Pass


class LMTask(TransformerTask):
    """Task over batches {"ids": int32 [b, t], "weights": float32 [b, t]}.

    weights[:, i] weighs the prediction of ids[:, i]; the loss is the weighted mean
    over the batch, over the whole padded vocabulary, in float32 (CogView's release).
    """

    def __init__(
        self,
        model: ImageLMConfig,
        num_codes: int,
        code_noise: float = 0.0,
        num_text: int = 0,
        image_start: int = 0,
        length: int = 0,
        places: Mapping[int, np.ndarray] | None = None,
    ):
        """Sets the network and the objective.

        num_codes: ids below are image codes. code_noise: while training, up to this
        share of an example's image inputs (drawn uniformly from 0) are those of
        another example. A small data set can be memorised from the codes before alone;
        noise makes the text tell which picture it is. 0 is CogView's objective.
        num_text: above 0 all sequences are so many text tokens and then an image, and
        text competes with text only, codes with codes (DALL-E's objective): the same
        loss as with the other ids hidden, at about half the arithmetic of the head.
        image_start: above 0 the position of each sequence's first code; the other
        tokens are then counted without the codes.
        length: tokens of a training sequence, the last only a target; 0 is one more
        than the network has positions.
        places: of images of several shapes, by the id that tells the shape, what is
        added to `image_start` for each code, int32 [n].
        """
        super().__init__(model)
        self.num_codes = num_codes
        self.code_noise = code_noise
        self.num_text = num_text
        self.image_start = image_start
        self.length = length or model.max_positions + 1
        self.places = places or {}

    def loss(self, params, state, batch, key: Array):
        """One training forward pass: (loss, (state, metrics))."""
        params, scales = resblock_scales.scale(params, state, batch["ids"].size)
        metrics = self._losses(params, batch, key, scales)
        loss = metrics.pop("loss")
        return loss, (state, metrics | resblock_scales.metrics(state))

    def eval_metrics(self, params, state, batch, key: Array):
        """Losses without dropout, in nats a token."""
        del state, key
        return self._losses(params, batch, None)

    def weights(self, batch) -> dict[str, Array]:
        """What loss and metrics are means over: the weights of their tokens in all."""
        return {name: jnp.sum(each) for name, each in self._weights(batch).items()}

    def batch_spec(self, size: int):
        """Ids and weights of whole sequences."""
        shape = size, self.length
        return {
            "ids": jax.ShapeDtypeStruct(shape, jnp.int32),
            "weights": jax.ShapeDtypeStruct(shape, jnp.float32),
        }

    def cost(self) -> Cost:
        """One pass; with `num_text` text is scored among text, codes among codes."""
        length = self.length - 1
        live = scored = length * (self.config.outputs or self.config.vocab_size)
        if self.num_text:
            text = self.num_text - 1
            scored = text * (self.config.vocab_size - self.num_codes)
            scored += (length - text) * self.num_codes
        return Cost((Pass(self.config, length, scored, live),))

    def _weights(self, batch) -> dict[str, Array]:
        """Weight of each token in each mean: float32 [b, t]."""
        weights = batch["weights"][:, 1:]
        of_image = weights * (batch["ids"][:, 1:] < self.num_codes)
        return {
            "loss": weights,
            "image_loss": of_image,
            "text_loss": weights - of_image,
        }

    def _losses(self, params, batch, key, scales=None) -> dict[str, Array]:
        inputs, targets = batch["ids"][:, :-1], batch["ids"][:, 1:]
        if key is not None and self.code_noise:
            key, noise_key = jax.random.split(key)
            inputs = self._mix_codes(inputs, noise_key)
        positions = self._positions(inputs)
        values = self._values(params, inputs, positions, targets, key, scales)
        return {
            name: losses.weighted_mean(values, weights)
            for name, weights in self._weights(batch).items()
        }

    def _positions(self, inputs: Array) -> Array:
        """int [b, t] -> int [b, t]."""
        if not self.image_start:
            return jnp.broadcast_to(jnp.arange(inputs.shape[1]), inputs.shape)
        is_code = inputs < self.num_codes
        index = jnp.cumsum(is_code, axis=1) - 1
        codes = self.image_start + self._places(inputs, index)
        # Padding comes last and weighs nothing: it may share the last position.
        others = jnp.minimum(jnp.cumsum(~is_code, axis=1), self.image_start) - 1
        return jnp.where(is_code, codes, others)

    def _places(self, inputs: Array, index: Array) -> Array:
        """Place of each code, by how many came before it: int [b, t] -> int [b, t]."""
        found = index
        for shape, places in self.places.items():
            has_it = jnp.any(inputs == shape, axis=1, keepdims=True)
            own = jnp.asarray(places)[jnp.clip(index, 0, len(places) - 1)]
            found = jnp.where(has_it, own, found)
        return found

    def _values(self, params, inputs, positions, targets, key, scales) -> Array:
        """Cross-entropy of each target: float32 [b, t]."""
        pivots, key = self._pivots(inputs, key)
        apply = partial(
            self.model.apply,
            {"params": params},
            inputs,
            positions,
            training=Training(key, pivots, scales),
        )
        if not self.num_text:
            logits, _ = apply()
            return losses.token_losses(logits, targets)
        text = slice(0, self.num_text - 1), slice(self.num_codes, None)
        image = slice(self.num_text - 1, None), slice(0, self.num_codes)
        parts, _ = apply(parts=(text, image))
        values = [
            losses.token_losses(logits, targets[:, at] - ids.start)
            for logits, (at, ids) in zip(parts, (text, image), strict=True)
        ]
        return jnp.concatenate(values, axis=1)

    def _pivots(self, inputs: Array, key):
        """(codes that are pivots of each layer [l, b, k] or None, key for the rest)."""
        config = self.config
        if key is None or not config.window:
            return None, key
        key, pivot_key = jax.random.split(key)
        shape = config.depth, len(inputs)
        count = config.image_pivots
        return random_codes(pivot_key, shape, config.image_len, count), key

    def _mix_codes(self, inputs: Array, key: Array) -> Array:
        """Takes some codes of each row from the row before it, at the same place."""
        rate_key, pick_key = jax.random.split(key)
        rates = self.code_noise * jax.random.uniform(rate_key, (inputs.shape[0], 1))
        other = jnp.roll(inputs, 1, axis=0)
        both_codes = (inputs < self.num_codes) & (other < self.num_codes)
        picked = jax.random.uniform(pick_key, inputs.shape) < rates
        return jnp.where(both_codes & picked, other, inputs)
