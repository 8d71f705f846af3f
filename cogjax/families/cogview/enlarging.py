"""The objective of super-resolution (section 3.1): a large image after a small one.

    [PAD]... [ROI1] text [BASE] [BOI1] small [EOI1] [ROI2] [POS0] [BASE] [BOI2] | large

Both images are the same, the small one at half the size, coded by one tokenizer: a
quarter as many codes. The network learns the codes of the large one alone, where the
release's loss is of all tokens: text and small image are given whenever it draws. The
paper's images are squares cut out of larger ones; ours are whole.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jax import Array

from cogjax.config import check_ranges
from cogjax.families.cogview.layout import Layout
from cogjax.families.cogview.prompted import PromptedTask
from cogjax.models.image_lm_config import ImageLMConfig


@dataclass(frozen=True)
class EnlargingMixture:
    """How training examples are drawn from captioned code grids.

    image_size: pixels a side of the large images, a multiple of what a code stands for;
    0 is that of the tokenizer, which codes larger images as well.
    """

    image_size: int = 0

    def __post_init__(self):
        check_ranges(self, image_size=(0, 2**14))

    def example(
        self,
        layout: Layout,
        texts: Sequence[Sequence[int]],
        codes: np.ndarray,
        rng: np.random.Generator,
    ) -> dict[str, np.ndarray]:
        """Draws a caption: "ids" and "positions" [m + n - 1], "codes" [n].

        codes: of the small image, and then those of the large one.
        """
        text = texts[rng.integers(len(texts))]
        small, large = np.split(np.asarray(codes, np.int32), [layout.small_len])
        [prompt], _, [places], [start] = layout.enlarging_prompts([text], small[None])
        places = np.concatenate([places, start + np.arange(len(large) - 1)])
        ids = np.concatenate([prompt, large[:-1]])
        return {"ids": ids, "positions": places.astype(np.int32), "codes": large}


class EnlargingTask(PromptedTask):
    """Task whose prompts have the small image, t = m + n - 1; the loss is a mean."""

    def __init__(self, model: ImageLMConfig, layout: Layout):
        """model: of the layout's sequences."""
        length = model.sequence.length - 1
        super().__init__(model, layout.vocab, layout.enlarging_len, length)

    def code_weights(self, batch) -> Array:
        """1: float32 [b, n]."""
        return jnp.ones(batch["codes"].shape, jnp.float32)


def positions_of(table: np.ndarray, of: Layout, to: Layout, rows: int) -> np.ndarray:
    """Embeddings of positions [rows, d] to start from, those [r, d] of a CogView.

    Where positions of both are fixed, a code gets that of the code at its place in the
    images that the model knows, whatever their size. What it does not know is 0.
    """
    found = np.zeros((rows, table.shape[1]), table.dtype)
    text = min(of.image_start, to.image_start) or min(rows, len(table))
    found[:text] = table[:text]
    if of.fixed and to.fixed:
        codes = table[of.image_start :][: of.image_len]
        small, large = _resized(codes, to.small_len), _resized(codes, to.image_len)
        found[to.image_start :][: len(small)] = small
        found[to.large_start :][: len(large)] = large
    return found


def _resized(codes: np.ndarray, count: int) -> np.ndarray:
    """The rows [n, d] of a square of codes for one of `count`, by the nearest place."""
    side, wanted = math.isqrt(len(codes)), math.isqrt(count)
    nearest = (2 * np.arange(wanted) + 1) * side // (2 * wanted)
    square = codes.reshape(side, side, -1)[nearest][:, nearest]
    return square.reshape(count, -1)
