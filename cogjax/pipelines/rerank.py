"""Choosing among candidates by what scores images and texts, lower is better."""

from collections.abc import Sequence

import numpy as np

from cogjax.data.aspects import Shape, spelled
from cogjax.errors import UserError
from cogjax.pipelines.contracts import Reranker
from cogjax.pipelines.request import Request


def check_reranker(rerank_by: Reranker | None) -> None:
    """UserError for what is no function."""
    if rerank_by is not None and not callable(rerank_by):
        raise UserError(
            f"rerank_by is {rerank_by!r}, expected a function of images and texts, "
            "such as cogjax.load(CLIP).score"
        )


def check_keep(request: Request, shape: Shape, parts: str) -> None:
    """UserError unless what is kept of an image has a shape of parts, and a hole.

    A mask may be white beside the middle of the image, which alone the model sees.
    """
    if request.keep is not None and request.keep.shape != shape:
        raise UserError(
            f"keep is bool {list(request.keep.shape)}, this model's images have "
            f"{list(shape)} {parts}"
        )
    if request.mask is not None and request.given(shape)[1].all():
        raise UserError(
            "the mask is white only outside of the middle of the image, of "
            f"{spelled(*shape)}, which is all that the model sees: crop the two first"
        )


def check_negative(request: Request, *guidance: float) -> None:
    """UserError for a negative prompt without guidance, which is what heeds it."""
    if request.negative is not None and set(guidance) == {1}:
        raise UserError(
            "negative is heeded by guidance, and that is off: set guidance above 1, "
            "say 3"
        )


def score_images(
    rerank_by: Reranker, prompts: Sequence[str], pixels: np.ndarray
) -> np.ndarray:
    """Scores [p, count] of uint8 [p, count, y, x, 3] against each one's prompt."""
    shape = pixels.shape[:2]
    texts = [text for text in prompts for _ in range(shape[1])]
    scores = np.asarray(rerank_by(pixels.reshape(-1, *pixels.shape[2:]), texts))
    if scores.shape != (len(texts),):
        raise UserError(
            f"the reranker gives {list(scores.shape)}, expected a score an image, "
            f"[{len(texts)}]"
        )
    return scores.reshape(shape)


def choose(
    scores: np.ndarray, count: int, images: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(scores [p, count], images [p, count, ...]) of the lowest, best first."""
    best = np.argsort(scores, axis=1, kind="stable")[:, :count]
    rows = np.arange(len(scores))[:, None]
    return scores[rows, best], images[rows, best]
