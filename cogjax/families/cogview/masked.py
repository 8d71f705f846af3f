"""MaskGIT's objective on CogView's tokens (Chang et al. 2022, section 3.1).

    [PAD]... [ROI1] text [BASE] [BOI1] | 5 [MASK] 9 [MASK] ...

Some codes are replaced by [MASK]. The network, whose codes see each other both ways,
predicts those from the text and the others. The share of masked codes is cos(pi r / 2)
with r uniform in [0, 1). The paper's condition is a class: the text in its place, and
examples without it for guidance, are ours.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jax import Array

from cogjax.data.vocab import Vocab
from cogjax.families.cogview.layout import Layout
from cogjax.families.cogview.prompted import PromptedTask
from cogjax.models.image_lm_config import ImageLMConfig
from cogjax.sampling.tokens.masked import masked_share


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


class MaskedTask(PromptedTask):
    """Task whose batches have [MASK] among the codes in "ids", t = m + n.

    m text positions, laid out by `Layout.prompts`. The loss is the mean over all masked
    codes of a batch.
    """

    def __init__(self, model: ImageLMConfig, vocab: Vocab):
        """model: a network whose codes see each other."""
        text = model.sequence.segments[0].length
        super().__init__(model, vocab, text, model.sequence.length)

    def code_weights(self, batch) -> Array:
        """1 where a code is masked: float32 [b, n]."""
        image = batch["ids"][:, self.prompt_len :]
        return (image == self.vocab.command("[MASK]")).astype(jnp.float32)
