"""A model of pairs makes an image the same in another style.

    model = cogjax.load("runs/pairs/export")
    model.generate(image=sketch, style="3D render").images[0].show()

Its sequences hold a text, the codes of the given image, and then those of the new one,
as if both were one image of twice the rows. It draws nothing from words alone.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np

from cogjax.data.images import as_images, fitted
from cogjax.errors import UserError, did_you_mean, shown
from cogjax.model import Model
from cogjax.ops.packed import WeightFormat
from cogjax.pipelines.request import Request
from cogjax.pipelines.tokens import CodeByCode


class PairsPipeline(CodeByCode):
    """A `Generator` that needs an image and a style; it neither reads nor scores."""

    images = 2

    @property
    def styles(self) -> tuple[str, ...]:
        """Words for what an image can be made into, those without a colour first."""
        return self.layout.styles

    def _check(self, request: Request, preview, rerank_by) -> None:
        """UserError for what this model cannot do."""
        super()._check(request, preview, rerank_by)
        if request.style is None:
            raise UserError(
                "this model makes an image the same in another style, and draws "
                "nothing from words alone: give image and style"
            )
        for style in request.style:
            check_style(style, self.styles)

    def _forced(self, request: Request, keys) -> np.ndarray:
        """The codes of each given image, and -1 for those to come: int32 [p, 1, m]."""
        del keys
        pixels = np.stack(
            [fitted(image, self.size) for image in as_images(request.image)]
        )
        codes = self.encode(pixels).reshape(len(pixels), -1)
        codes = np.broadcast_to(codes, (len(request.prompts), codes.shape[1]))
        return np.concatenate([codes, np.full_like(codes, -1)], axis=1)[:, None]

    def _sample(
        self, pieces, keys, forced, request: Request, preview: bool
    ) -> Iterator[tuple[np.ndarray, int]]:
        """As of `CodeByCode`, of the new image alone."""
        given = math.prod(self.shape)
        found = super()._sample(pieces, keys, forced, request, preview)
        for tokens, count in found:
            if count > given:
                yield tokens[:, given:], count - given


def check_style(style: str, known: Sequence[str]) -> None:
    """UserError for a style that is not among those of a model."""
    if style not in known:
        raise UserError(f"there is no style {shown(style)}{did_you_mean(style, known)}")


def of_layout(
    model: Model, weights: WeightFormat = "float32"
) -> PairsPipeline | CodeByCode:
    """The pipeline of a DALL-E, whose layout says whether it is of pairs."""
    pairs = model.layout is not None and model.layout.images > 1
    return (PairsPipeline if pairs else CodeByCode)(model, weights=weights)
