"""What a model can do, as types: generate, read, make codes, or compare by vectors.

`isinstance(model, Reader)` asks; `expect` asks on behalf of a user.
"""

import operator
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import numpy as np
from PIL import Image

from cogjax.data.aspects import Shape
from cogjax.data.contact_sheet import grid
from cogjax.data.images import encode_png
from cogjax.errors import UserError
from cogjax.files import check_folder
from cogjax.pipelines.attention_found import Attention
from cogjax.pipelines.checks import MAX_IMAGES, check_whole
from cogjax.pipelines.display import MOST, images_html
from cogjax.pipelines.request import Request
from cogjax.pipelines.saving import save_generation

# Called with (done, total, what is done).
Progress = Callable[[int, int, str], None]
# Called with the (prompt, image) indices of k images that are being generated and their
# codes int32 [k, y, x], -1 where they are to come: after every row, or once where
# all codes are finished together. Without codes, with estimates of their pixels, uint8
# [k, y, x, 3] of a stage's size, after every four steps of it and before its last. An
# image may be there twice: a last short batch is filled with its first one.
Preview = Callable[[list[tuple[int, int]], np.ndarray], None]
# (images uint8 [n, y, x, 3], n texts) -> float [n], lower is better.
Reranker = Callable[[np.ndarray, Sequence[str]], np.ndarray]


@dataclass(frozen=True, eq=False)
class Generation:
    """Images of P prompts, N each, best first if they were reranked.

    pixels: uint8 [p, n, y, x, 3]. codes: int32 [p, n, rows, columns], None of a model
    without codes. scores: float [p, n], what the images were reranked by, lower is
    better, by default caption loss in nats a text token; None without rerank. unread:
    the end of each prompt that is behind what the model reads, "" where there is none.
    unseen: words of the prompts that the model's training did not have, as far as it is
    known.
    """

    prompts: tuple[str, ...]
    pixels: np.ndarray = field(repr=False)
    codes: np.ndarray | None = field(default=None, repr=False)
    scores: np.ndarray | None = None
    unread: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()

    @property
    def images(self) -> list[Image.Image]:
        """All images in one list, prompt by prompt; `len`, `[i]` and `for` are of it.

        So `result[0]` is the first image of the first prompt.
        """
        return list(map(Image.fromarray, self._flat))

    @property
    def _flat(self) -> np.ndarray:
        """uint8 [p * n, y, x, 3]."""
        return self.pixels.reshape(-1, *self.pixels.shape[2:])

    def __len__(self) -> int:
        return len(self._flat)

    def __getitem__(self, index: int | slice) -> Image.Image | list[Image.Image]:
        if isinstance(index, slice):
            return list(map(Image.fromarray, self._flat[index]))
        return Image.fromarray(self._flat[operator.index(index)])

    def __iter__(self) -> Iterator[Image.Image]:
        return map(Image.fromarray, self._flat)

    def grid(self, columns: int | None = None) -> Image.Image:
        """All images in one, a row a prompt unless `columns` says otherwise."""
        columns = self.pixels.shape[1] if columns is None else columns
        check_whole("columns", columns, 1, MAX_IMAGES)
        return grid(self._flat, columns)

    def save(self, folder: str | os.PathLike) -> Path:
        """Writes the images, `grid.png` and `generation.json` into a folder.

        Beyond 256 images, or fewer that are large, there are `grid-2.png` and so on.
        Nothing there is overwritten: names get numbers. Returns the folder; UserError
        if it cannot be written to.
        """
        folder = check_folder(folder)
        save_generation(self, folder)
        return folder

    def _repr_html_(self) -> str:
        texts = [text for text in self.prompts for _ in range(self.pixels.shape[1])]
        scores = [None] * len(texts) if self.scores is None else self.scores.ravel()
        captions = [
            text if score is None else f"{text} ({score:.3f})"
            for text, score in zip(texts, scores, strict=True)
        ]
        return images_html(self._flat, captions)

    def _repr_png_(self) -> bytes:
        columns = self.pixels.shape[1]
        shown = grid(self._flat[:MOST], columns if columns <= MOST else 8)
        return encode_png(np.asarray(shown))


class Part(NamedTuple):
    """Images that are finished before others of their request.

    prompts, images: their numbers in it, of the images those of each prompt. result:
    of these alone.
    """

    prompts: range
    images: range
    result: Generation


@runtime_checkable
class Generator(Protocol):
    """A model that makes images of texts."""

    card: Mapping[str, Any]

    def generate(
        self, prompts: str | Sequence[str] | Request, **settings: Any
    ) -> Generation:
        """Images; settings are the fields of `Request`, and what looks on or chooses.

        These are `progress`, `preview` and `rerank_by`; what `progress` or `preview`
        raises ends the work.
        """

    def check(
        self,
        request: Request,
        *,
        preview: Preview | None = None,
        rerank_by: Reranker | None = None,
    ) -> None:
        """UserError for what this model cannot do; it takes no time."""

    def settings(self, request: Request) -> dict[str, Any]:
        """What a request amounts to with the model's own defaults, JSON-able."""


@runtime_checkable
class PartByPart(Protocol):
    """A `Generator` whose first images are there before the last are begun."""

    def generate_parts(
        self,
        request: Request,
        *,
        progress: Progress | None = None,
        rerank_by: Reranker | None = None,
    ) -> Iterator[Part]:
        """The images of `generate`, each once, prompt by prompt.

        UserError for what the model cannot do, before the first.
        """


@runtime_checkable
class Reader(Protocol):
    """A model that makes texts of images, and compares the two."""

    def caption(self, images: Any, language: str | None = None, **search) -> list[str]:
        """A text about each image."""

    def ask(self, images: Any, questions: Any, **search) -> list[str]:
        """An answer to question i about image i."""

    def score(self, images: Any, texts: Any) -> np.ndarray:
        """How badly text i fits image i: float32 [n], lower is better."""

    def unseen(self, texts: Sequence[str]) -> tuple[str, ...]:
        """Words of the texts that the model's training did not have, if it is known."""


@runtime_checkable
class Scorer(Protocol):
    """A model that tells how well texts fit images."""

    def score(self, images: Any, texts: Any) -> np.ndarray:
        """How badly text i fits image i: float32 [n], lower is better."""


@runtime_checkable
class Codec(Protocol):
    """A model whose images are codes.

    shapes: (rows, columns) that they may have, the usual ones first.
    """

    shapes: tuple[Shape, ...]

    def encode(self, images: np.ndarray) -> np.ndarray:
        """Pixels uint8 [n, y, x, 3] -> codes int32 [n, rows, columns]."""

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Codes int [n, rows, columns] -> pixels uint8 [n, y, x, 3]."""


@runtime_checkable
class Embedder(Protocol):
    """A model that compares images and texts by vectors; its `score` is a reranker."""

    def embed_images(self, images: Any) -> np.ndarray:
        """Images -> float32 [n, d], of length 1."""

    def embed_texts(self, texts: str | Sequence[str]) -> np.ndarray:
        """Texts -> float32 [n, d], of length 1."""

    def score(self, images: Any, texts: Any) -> np.ndarray:
        """How badly text i fits image i: float32 [n], 1 - cosine, lower is better."""


@runtime_checkable
class Attending(Protocol):
    """A model that shows what it makes an image of."""

    def attention(self, image: Any, text: str, **settings: Any) -> Attention:
        """How much each place of an image takes of a text."""


@runtime_checkable
class Enlarging(Protocol):
    """A model that draws images anew at twice their size."""

    def check_size(self, size: int) -> None:
        """UserError unless the model enlarges images of so many pixels a side."""

    def enlarge_generated(
        self, result: Generation, model: Generator, **settings: Any
    ) -> Generation:
        """What a model has generated, each image at twice its size."""


class RowProgram(NamedTuple):
    """What a model does as a function of arrays alone, with an example.

    run: (weights, row, shared) -> outputs of one row, arrays by name. source: the
    component that `weights`, nested arrays, are of. rows: inputs [n, ...] of n rows.
    shared: inputs that all rows have in common. outputs: [n, ...], by cogjax itself.
    """

    run: Callable[[Any, Mapping[str, Any], Mapping[str, Any]], Mapping[str, Any]]
    source: str
    weights: Any
    rows: Mapping[str, np.ndarray]
    shared: Mapping[str, np.ndarray]
    outputs: Mapping[str, np.ndarray]


@runtime_checkable
class Exportable(Protocol):
    """A model whose work is written as programs (`exporting/programs.py`)."""

    def row_programs(self, request: Request) -> dict[str, RowProgram]:
        """Those of its methods, by name.

        request: the images of its first prompt are the example; what it says of steps
        and methods is part of the program.
        """


_WORK = {Generator: "generate images", Reader: "read images", Codec: "work with codes"}
_WORK[Attending] = "show their attention"
_WORK[Scorer] = "score images"
_WORK[Enlarging] = "enlarge images"
_WORK[Embedder] = "compare images and texts by vectors, as a CLIP does"
T = TypeVar("T")


def expect(model: Any, kind: type[T]) -> T:
    """The model; UserError unless it is of that kind."""
    if not isinstance(model, kind):
        raise UserError(f"this model does not {_WORK[kind]}: choose one that does")
    return model
