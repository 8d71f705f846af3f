"""What objectives over a prompt and the codes behind it have in common."""

import abc

import jax
import jax.numpy as jnp
from jax import Array

from cogjax.data.vocab import Vocab
from cogjax.models.image_lm import EVALUATION, Training
from cogjax.models.image_lm_config import ImageLMConfig
from cogjax.ops import losses
from cogjax.tasks import resblock_scales
from cogjax.tasks.transformer import TransformerTask
from cogjax.train.task import Cost, Pass


class PromptedTask(TransformerTask, abc.ABC):
    """Task over {"ids", "positions": [b, t], "codes": [b, n]} of int32.

    A prompt of `prompt_len` tokens comes first, as it is sampled from, its padding on
    the left. The last n positions predict the codes, which compete with codes alone,
    since nothing else is ever drawn there.
    """

    def __init__(self, model: ImageLMConfig, vocab: Vocab, prompt_len: int, t: int):
        """t: inputs of a sequence, the last of which predicts the last code."""
        super().__init__(model)
        self.vocab, self.prompt_len, self.length = vocab, prompt_len, t
        self.num_codes = model.sequence.length - prompt_len

    @abc.abstractmethod
    def code_weights(self, batch) -> Array:
        """Weight of each code in the loss: float32 [b, n]."""

    def loss(self, params, state, batch, key: Array):
        """One training forward pass: (loss, (state, metrics))."""
        params, scales = resblock_scales.scale(params, state, batch["codes"].size)
        loss = self._loss(params, batch, Training(key, scales=scales))
        return loss, (state, resblock_scales.metrics(state))

    def eval_metrics(self, params, state, batch, key: Array):
        """The loss without dropout, in nats a code."""
        del state, key
        return {"loss": self._loss(params, batch, EVALUATION)}

    def weights(self, batch) -> dict[str, Array]:
        """Weights of the codes, which the loss is a mean over."""
        return {"loss": jnp.sum(self.code_weights(batch))}

    def batch_spec(self, size: int):
        """Ids and positions of the inputs, and the codes."""
        inputs = jax.ShapeDtypeStruct((size, self.length), jnp.int32)
        codes = jax.ShapeDtypeStruct((size, self.num_codes), jnp.int32)
        return {"ids": inputs, "positions": inputs, "codes": codes}

    def cost(self) -> Cost:
        """One pass, in which all codes are scored among codes, whatever they weigh."""
        scored = self.num_codes * self.vocab.num_codes
        return Cost((Pass(self.config, self.length, scored, scored),))

    def _loss(self, params, batch, training: Training) -> Array:
        ids = batch["ids"]
        visible = ids[:, : self.prompt_len] != self.vocab.command("[PAD]")
        codes = slice(-self.num_codes, None), slice(0, self.vocab.num_codes)
        (logits,), _ = self.model.apply(
            {"params": params},
            ids,
            batch["positions"],
            visible,
            training=training,
            parts=(codes,),
        )
        values = losses.token_losses(logits, batch["codes"])  # [b, n]
        return losses.weighted_mean(values, self.code_weights(batch))
