"""Pre-training a T5 by span corruption (Raffel et al. 2020, section 3.1.4).

The encoder reads a text without some spans, the decoder writes them. The encoder is
what is kept: the decoder may be small. Both share one table, and so does the head, as
in version 1.0: logits = states table^T / sqrt(width).
"""

import dataclasses
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array

from cogjax.config import check_ranges
from cogjax.data.span_corruption import SpanCorruption
from cogjax.data.t5_text import PAD
from cogjax.models.t5 import (
    PARAM_AXES,
    T5Config,
    T5Decoder,
    T5Encoder,
    embed,
    matrix_axes,
)
from cogjax.ops import losses
from cogjax.parallel.axes import constrain
from cogjax.train.task import Task


@dataclass(frozen=True)
class PretrainingConfig(SpanCorruption):
    """decoder_depth: layers of the decoder, of the encoder's width."""

    decoder_depth: int = 2

    def __post_init__(self):
        super().__post_init__()
        check_ranges(self, decoder_depth=(1, 1024))


class SpanCorruptionTask(Task):
    """Task over batches {"ids": int32 [b, n], "targets": int32 [b, m]}, padded by 0."""

    matrix_axes = staticmethod(matrix_axes)
    param_axes = PARAM_AXES

    def __init__(self, config: T5Config, settings: PretrainingConfig):
        self.config, self._settings = config, settings
        self._encoder = T5Encoder(config)
        depth = settings.decoder_depth
        self._decoder = T5Decoder(dataclasses.replace(config, depth=depth))

    def init(self, key: Array):
        """({"encoder", "decoder"}, no state) of a new run."""
        keys, width = jax.random.split(key), self.config.width
        ids, states = jnp.ones((1, 2), jnp.int32), jnp.zeros((1, 2, width))
        params = {
            "encoder": self._encoder.init(keys[0], ids, ids > 0)["params"],
            "decoder": self._decoder.init(keys[1], states, states, ids > 0)["params"],
        }
        return params, {}

    def loss(self, params, state, batch, key: Array):
        """Cross-entropy of the targets, in nats an id: (loss, (state, metrics))."""
        del key
        metrics = self._measure(params, batch)
        loss = metrics.pop("loss")
        return loss, (state, metrics)

    def eval_metrics(self, params, state, batch, key: Array):
        """ "loss", and "accuracy": the share of ids that are the likeliest."""
        del state, key
        return self._measure(params, batch)

    def weights(self, batch) -> dict[str, Array]:
        """Ids of the targets."""
        count = jnp.sum(batch["targets"] != PAD)
        return {"loss": count, "accuracy": count}

    def batch_spec(self, size: int):
        """Ids of texts and of what was left out of them."""
        text_len = self.config.text_len
        shapes = {"ids": text_len, "targets": self._settings.target_len(text_len)}
        return {
            name: jax.ShapeDtypeStruct((size, length), jnp.int32)
            for name, length in shapes.items()
        }

    def _measure(self, params, batch) -> dict[str, Array]:
        targets = batch["targets"]
        logits = self._logits(params, batch["ids"], targets)
        found = {
            "loss": losses.token_losses(logits, targets),
            "accuracy": jnp.argmax(logits, axis=-1) == targets,
        }
        there = (targets != PAD).astype(jnp.float32)
        return {
            name: losses.weighted_mean(values, there) for name, values in found.items()
        }

    def _logits(self, params, ids: Array, targets: Array) -> Array:
        """float32 [b, m, v], each position from the ids before it."""
        mask, table = ids != PAD, params["encoder"]["token_embedding"]
        tokens = self._encoder.apply({"params": params["encoder"]}, ids, mask)
        # Padding is where T5's decoder starts.
        before = jnp.pad(targets, ((0, 0), (1, 0)), constant_values=PAD)[:, :-1]
        x = embed(self.config, table, before)
        states = self._decoder.apply({"params": params["decoder"]}, x, tokens, mask)
        states *= self.config.width**-0.5
        logits = jnp.einsum("bmd,vd->bmv", states, table.astype(states.dtype))
        return constrain(logits.astype(jnp.float32), "batch", None, "vocab")
