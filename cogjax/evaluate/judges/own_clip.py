"""A CLIP of cogjax as the metrics see one."""

from dataclasses import dataclass

import numpy as np

from cogjax.pipelines.contracts import Embedder


@dataclass(frozen=True)
class OwnClip:
    """id: "NAME:hash" of the model, and how it makes squares of oblong images, as
    "NAME:hash:squeezed". resize: PIL's Lanczos brings them to their size.
    """

    model: Embedder
    id: str
    resize: str = "pil_lanczos"

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """uint8 [n, y, x, 3] of any size -> float32 [n, d], of length 1."""
        return self.model.embed_images(images)

    def text(self, captions: list[str]) -> np.ndarray:
        """float32 [n, d], of length 1."""
        return self.model.embed_texts(captions)
