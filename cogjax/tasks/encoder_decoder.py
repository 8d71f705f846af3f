"""Training an encoder and a decoder: the codes of an image after its text."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from cogjax.models.encoder_decoder import PARAM_AXES, EncoderDecoder
from cogjax.models.encoder_decoder_config import EncoderDecoderConfig
from cogjax.ops import losses
from cogjax.train.task import Cost, Pass, Task


class EncoderDecoderTask(Task):
    """Task over batches {"ids": [b, t], "count": [b], "codes": [b, m]}, all int32.

    count: how many of the ids are no padding, which is behind them. The loss is the
    mean cross-entropy of the codes over all rows of their table, in float32, as in
    borisdayma/dalle-mini.
    """

    param_axes = PARAM_AXES

    def __init__(self, config: EncoderDecoderConfig):
        self.config, self.model = config, EncoderDecoder(config)

    def init(self, key: Array) -> tuple[Any, dict[str, Any]]:
        """Returns (params, state) of a new run."""
        ids, codes = (jnp.zeros((1, n), jnp.int32) for n in (1, 0))
        mask = jnp.ones((1, 1), bool)
        return self.model.init(key, ids, mask, codes, method="score")["params"], {}

    def loss(self, params, state, batch, key: Array):
        """One training forward pass: (loss, (state, metrics))."""
        del key
        ids, codes = batch["ids"], batch["codes"]
        mask = jnp.arange(ids.shape[1]) < batch["count"][:, None]
        # The last code is only a target.
        logits = self.model.apply(
            {"params": params}, ids, mask, codes[:, :-1], method="score"
        )
        return jnp.mean(losses.token_losses(logits, codes)), (state, {})

    def batch_spec(self, size: int):
        """Texts, their lengths, and codes."""
        text, image = self.config.text_len, self.config.image_len
        shapes = {"ids": (size, text), "count": (size,), "codes": (size, image)}
        return {
            name: jax.ShapeDtypeStruct(shape, jnp.int32)
            for name, shape in shapes.items()
        }

    def cost(self) -> Cost:
        """A text through the encoder and an image through the decoder."""
        config = self.config
        scored = config.image_len * config.vocab_size
        length = config.text_len + config.image_len
        return Cost((Pass(config, length, scored, scored),))
