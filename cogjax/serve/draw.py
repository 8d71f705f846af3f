"""Images of a request: previews on the way, and files that hold how they came about."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cogjax.data.images import encode_png
from cogjax.errors import UserError
from cogjax.pipelines.contracts import Generation, Generator, Reranker
from cogjax.pipelines.recipe import recipe
from cogjax.pipelines.request import Request
from cogjax.pipelines.saving import of_image
from cogjax.serve.abilities import Shelf
from cogjax.serve.job import Job, Limits, Outcome, Stopped

_GREY = 224  # what is still to come


@dataclass(frozen=True)
class Draw:
    """Images of a request; previews are shown on the way.

    given: sha256 of each image file that came with it, and `keep` as it came. judge:
    name of the model that chooses among candidates, None for the one that draws.
    """

    shelf: Shelf
    name: str
    request: Request
    given: Mapping[str, Any]
    judge: str | None

    def __call__(self, job: Job) -> Outcome:
        start, model, request = time.monotonic(), self._model, self.request
        looks = {"progress": job.progress}
        preview = Preview(model, request, job)
        if _has_preview(model, request, preview, self._reranker):
            looks["preview"] = preview
        if self.judge:
            looks["rerank_by"] = self._reranker
        found = model.generate(request, **looks)
        common = self._recipe()
        made = [
            of_image(found, *where) for where in np.ndindex(*found.pixels.shape[:2])
        ]
        pixels = found.pixels.reshape(-1, *found.pixels.shape[2:])
        files = tuple(
            encode_png(each, common | own)
            for each, own in zip(pixels, made, strict=True)
        )
        return Outcome(_told(found, common, made, time.monotonic() - start), files)

    @property
    def _model(self) -> Generator:
        return self.shelf.models[self.name]

    @property
    def _reranker(self) -> Reranker | None:
        return self.shelf.models[self.judge].score if self.judge else None

    def _recipe(self) -> dict[str, Any]:
        """What the images have in common."""
        request, shelf = self.request, self.shelf
        named = {"name": self.name, **shelf.loaded}
        found = recipe(shelf.version, named, self._model, request)
        own = {"strength": request.strength, "style": request.style}
        own |= {"rerank_by": self.judge, **self.given}
        found["settings"] |= {name: x for name, x in own.items() if x is not None}
        return found

    def check(self, limits: Limits) -> None:
        """UserError for what the model cannot do, and for too many images."""
        request = self.request
        count = len(request.prompts) * max(request.num_images, request.rerank)
        if count > limits.images:
            raise UserError(
                f"{count} images or candidates: this server makes at most "
                f"{limits.images} at once"
            )
        self._model.check(request, rerank_by=self._reranker)


def _has_preview(model: Generator, request: Request, preview, rerank_by) -> bool:
    try:
        model.check(request, preview=preview, rerank_by=rerank_by)
    except UserError:
        return False  # Without it the request was accepted.
    return True


def _told(
    found: Generation, common: Mapping, made: list[dict], seconds: float
) -> dict[str, Any]:
    """What a client is told of finished images; codes are in the files alone."""
    return {
        "made": [{k: x for k, x in each.items() if k != "codes"} for each in made],
        "model": common["model"]["name"],
        "seed": common["seed"],
        "settings": common["settings"],
        "unread": found.unread,
        "unseen": found.unseen,
        "seconds": round(seconds, 2),
    }


class Preview:
    """As of `contracts.Preview`: shows a job's images while they are generated."""

    def __init__(self, model: Generator, request: Request, job: Job):
        self._model, self._request, self._job = model, request, job
        self._count = max(request.num_images, request.rerank)
        self._files: dict[int, bytes] = {}

    def __call__(self, pairs: list[tuple[int, int]], values: np.ndarray) -> None:
        self._job.show(lambda: self._shown(pairs, values))

    def _shown(self, pairs, values: np.ndarray) -> tuple[bytes, ...]:
        pixels = values if values.ndim == 4 else so_far(self._model, values)
        pixels = self._request.laid_over(pixels)
        rows: dict[int, int] = {}
        for row, (prompt, image) in enumerate(pairs):
            # Several fillings of one image: the first stands for it.
            rows.setdefault(prompt * self._count + image, row)
        self._files |= {place: encode_png(pixels[row]) for place, row in rows.items()}
        return tuple(self._files[place] for place in sorted(self._files))


def so_far(model: Any, codes: np.ndarray) -> np.ndarray:
    """Codes int [k, y, x], -1 where they are to come -> pixels uint8 [k, y, x, 3]."""
    pixels = np.array(model.decode(np.maximum(codes, 0)))
    y, x = (
        np.arange(pixels.shape[i]) * codes.shape[i] // pixels.shape[i] for i in (1, 2)
    )
    pixels[(codes < 0)[:, y][:, :, x]] = _GREY
    return pixels


def warm_up(shelf: Shelf) -> list[Callable[[], None]]:
    """What compiles the programs of the models that generate, until a first preview."""
    return [
        lambda name=name, example=each.example: _compile(shelf.models[name], example)
        for name, each in shelf.abilities.items()
        if each.example
    ]


def _compile(model: Generator, request: Request) -> None:
    def look(pairs, values):
        if values.ndim == 3:
            so_far(model, values)
        raise Stopped

    model.generate(request, preview=look)
