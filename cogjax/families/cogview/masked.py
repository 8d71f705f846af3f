"""MaskGIT's objective on CogView's tokens (Chang et al. 2022, section 3.1).

    [PAD]... [ROI1] text [BASE] [BOI1] | 5 [MASK] 9 [MASK] ...

Some codes are replaced by [MASK]. The network, whose codes see each other both ways,
predicts those from the text and the others. The share of masked codes is cos(pi r / 2)
with r uniform in [0, 1). The paper's condition is a class: the text in its place, and
examples without it for guidance, are ours.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from cogjax.data.vocab import Vocab
from cogjax.families.cogview.layout import Layout
from cogjax.models.image_lm import EVALUATION, Training
from cogjax.models.image_lm_config import ImageLMConfig
from cogjax.ops import losses
from cogjax.sampling.tokens.masked import masked_share
from cogjax.tasks import resblock_scales
from cogjax.tasks.transformer import TransformerTask
from cogjax.train.task import Cost, Pass


@dataclass(frozen=True)
class MaskedMixture:
    """How training examples are drawn from captioned code grids.

    caption_dropout: share of examples with an empty text, for classifier-free guidance.
    """

    caption_dropout: float = 0.1

    def __post_init__(self):
        if not 0 <= self.caption_dropout <= 1:
            raise ValueError(
                f"caption_dropout is {self.caption_dropout}, expected 0 to 1"
            )

    def example(
        self,
        layout: Layout,
        texts: Sequence[Sequence[int]],
        codes: np.ndarray,
        rng: np.random.Generator,
    ) -> dict[str, np.ndarray]:
        """Draws a caption and a mask: "ids" and "positions" [m + n], "codes" [n]."""
        text = texts[rng.integers(len(texts))]
        if rng.random() < self.caption_dropout:
            text = ()
        codes = np.ravel(codes).astype(np.int32)
        masked = draw_mask(len(codes), rng)
        image = np.where(masked, layout.vocab.command("[MASK]"), codes)
        [prompt], _, [positions], [start] = layout.prompts([text])
        places = start + np.arange(len(codes))
        return {
            "ids": np.concatenate([prompt, image]).astype(np.int32),
            "positions": np.concatenate([positions, places]).astype(np.int32),
            "codes": codes,
        }


def draw_mask(num_codes: int, rng: np.random.Generator) -> np.ndarray:
    """Which codes are masked, bool [num_codes]: at least one, wherever they are."""
    count = np.ceil(num_codes * masked_share(rng.random()))
    return rng.permutation(num_codes) < max(count, 1)


class MaskedTask(TransformerTask):
    """Task over {"ids", "positions": [b, m + n], "codes": [b, n]} of int32.

    m text positions, laid out by `Layout.prompts`, and n codes, [MASK] among them in
    "ids". The loss is the mean over all masked codes of a batch; codes compete with
    codes, since nothing else is ever drawn there.
    """

    def __init__(self, model: ImageLMConfig, vocab: Vocab):
        """model: a network whose codes see each other."""
        super().__init__(model)
        self.vocab = vocab
        text, image = model.sequence.segments
        self.num_text, self.num_codes = text.length, image.length

    def loss(self, params, state, batch, key: Array):
        """One training forward pass: (loss, (state, metrics))."""
        params, scales = resblock_scales.scale(params, state, batch["codes"].size)
        loss = self._loss(params, batch, Training(key, scales=scales))
        return loss, (state, resblock_scales.metrics(state))

    def eval_metrics(self, params, state, batch, key: Array):
        """The loss without dropout, nats a masked code."""
        del state, key
        return {"loss": self._loss(params, batch, EVALUATION)}

    def weights(self, batch) -> dict[str, Array]:
        """Masked codes, which the loss is a mean over."""
        return {"loss": jnp.sum(self._masked(batch))}

    def batch_spec(self, size: int):
        """Ids and positions of whole sequences, and the codes."""
        whole = jax.ShapeDtypeStruct((size, self.num_text + self.num_codes), jnp.int32)
        codes = jax.ShapeDtypeStruct((size, self.num_codes), jnp.int32)
        return {"ids": whole, "positions": whole, "codes": codes}

    def cost(self) -> Cost:
        """One pass, in which all codes are scored among codes, masked or not."""
        scored = self.num_codes * self.vocab.num_codes
        length = self.num_text + self.num_codes
        return Cost((Pass(self.config, length, scored, scored),))

    def _masked(self, batch) -> Array:
        """1 where a code is masked: float32 [b, n]."""
        image = batch["ids"][:, self.num_text :]
        return (image == self.vocab.command("[MASK]")).astype(jnp.float32)

    def _loss(self, params, batch, training: Training) -> Array:
        ids = batch["ids"]
        visible = ids[:, : self.num_text] != self.vocab.command("[PAD]")
        codes = slice(self.num_text, None), slice(0, self.vocab.num_codes)
        (logits,), _ = self.model.apply(
            {"params": params},
            ids,
            batch["positions"],
            visible,
            training=training,
            parts=(codes,),
        )
        values = losses.token_losses(logits, batch["codes"])  # [b, n]
        return losses.weighted_mean(values, self._masked(batch))
