"""What Imagen's stages are trained on: images beside vectors of their captions."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np

from cogjax.data import records
from cogjax.data.embeddings import EmbeddedExample
from cogjax.errors import UserError
from cogjax.families.imagen.denoising import NetworkConfig


class Paired:
    """(image, vectors of its captions), for each image of a split."""

    def __init__(self, path: str, texts: str | Path, split: str):
        self._images = records.open_split(path, split)
        self._texts = records.open_split(texts, split, EmbeddedExample)

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int):
        return self._images[index], self._texts[index]


def example(
    config: NetworkConfig, text_len: int, item: tuple, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """What a stage learns from an item of `Paired`, with one caption drawn.

    Gives "image" and, for super-resolution, "small": uint8 [y, x, 3] of the network's
    sizes; "tokens" bfloat16 [text_len, d] and their "mask" bool [text_len]. UserError
    where the vectors are another image's.
    """
    image, text = item
    if image.id != text.id:
        raise UserError(
            f"the vectors of {text.id} stand where those of {image.id} should: remove "
            "the run's folder texts, or encode data.vectors again"
        )
    tokens = np.zeros((text_len, config.text_dim), jnp.bfloat16)
    # An image without captions is learnt as with its text left out: one token of zeros.
    count = 1
    if text.tokens:
        words = text.tokens[rng.integers(len(text.tokens))][:text_len]
        count = len(words)
        tokens[:count] = words
    small = getattr(config, "small_size", 0)
    sizes = {"image": config.image_size} | ({"small": small} if small else {})
    return {
        **{n: records.decode_image(image.image, size) for n, size in sizes.items()},
        "tokens": tokens,
        "mask": np.arange(text_len) < count,
    }
