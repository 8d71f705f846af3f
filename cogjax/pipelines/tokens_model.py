"""A model whose images are codes: its networks, its text pieces, images to codes."""

import copy
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np

from cogjax.data.aspects import Shape, nearest, of_model
from cogjax.data.images import as_images, fitted, on_white
from cogjax.data.sequences import Prompts
from cogjax.errors import UserError
from cogjax.model import Component, Model
from cogjax.models.image_lm import ImageLM
from cogjax.models.inference import for_inference, scoring
from cogjax.ops.packed import WeightFormat
from cogjax.pipelines.checks import check_text, say_unread
from cogjax.pipelines.held import HeldModel
from cogjax.pipelines.tokenize import decode, encode
from cogjax.sampling.tokens.autoregressive import OutputIds, Sampler


class TokensModel(HeldModel):
    """What generating and reading share.

    batch_size: most rows in one call of the network; may be set at any time. images:
    how many a sequence holds.
    """

    images = 1

    def __init__(
        self, model: Model, batch_size: int = 16, weights: WeightFormat = "float32"
    ):
        """weights: as of `load`. UserError for parts that do not go together."""
        check_parts(model, images=self.images)
        self.model = model
        self.batch_size = batch_size
        self.layout = model.layout
        transformer, tokenizer = model["transformer"], model["tokenizer"]
        self._generator, self._params = self._make_network(transformer, weights)
        self._code_params = self._scoring_codes(self._params)
        self._code_ids = OutputIds(np.ones(self.num_codes, bool))
        arrays = tokenizer.params, tokenizer.state
        self._tokenizer = Component(tokenizer.config, *jax.device_put(arrays))

    def _make_network(self, transformer: Component, weights: WeightFormat) -> tuple:
        """(network, its parameters packed)."""
        config = dataclasses.replace(transformer.config, remat="none", dropout=0.0)
        return ImageLM(config), for_inference(transformer.params, weights)

    def _scoring_codes(self, params: Any) -> Any:
        """Parameters with which codes are scored and nothing else."""
        return scoring(params, (0, self.num_codes))

    @property
    def transformer(self) -> tuple[ImageLM, Any]:
        """The network that generates, and its parameters as sampling reads them."""
        return self._generator, self._params

    @property
    def image_size(self) -> int:
        """Pixels a side of the tokenizer's squares."""
        return self._tokenizer.config.image_size

    @property
    def grid(self) -> int:
        """Codes a side of these."""
        return self._tokenizer.config.grid

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """(rows, columns) of codes that an image may have, the usual ones first."""
        return getattr(self.layout, "shapes", ()) or (self.shape,)

    @property
    def shape(self) -> Shape:
        """(rows, columns) of the codes of an image, if nothing else is asked for."""
        return getattr(self.layout, "shape", (self.grid, self.grid))

    @property
    def size(self) -> Shape:
        """(height, width) in pixels of an image of `shape`."""
        unit = self.image_size // self.grid
        return self.shape[0] * unit, self.shape[1] * unit

    def of(self, shape: Shape) -> Self:
        """The same model, whose images have another of its shapes."""
        if shape == self.shape:
            return self
        found = copy.copy(self)
        found.layout = self.layout.of(shape)
        return found

    def shape_for(self, aspect: str | None, size: Shape | None = None) -> Shape:
        """The shape that an aspect asks for, or else the nearest to (height, width).

        UserError for an aspect that the model was not trained on.
        """
        if aspect is not None:
            return of_model(self.shapes, aspect)
        return self.shape if size is None else nearest(self.shapes, size)

    def by_shape(self, images: Any) -> Iterator[tuple[Self, list[int], np.ndarray]]:
        """(the model of a shape, which images are nearest to it, their codes).

        images: as of `Reader.score`, one or more. codes: int32 [n, rows, columns].
        """
        # On white they are turned too, as their EXIF says.
        images = [on_white(image) for image in as_images(images)]
        shapes = [self.shape_for(None, image.size[::-1]) for image in images]
        for shape in dict.fromkeys(shapes):
            own = self.of(shape)
            which = [i for i, each in enumerate(shapes) if each == shape]
            pixels = np.stack([fitted(images[i], own.size) for i in which])
            yield own, which, own.encode(pixels)

    @property
    def num_codes(self) -> int:
        """Codes that an image token may be."""
        return self.layout.vocab.num_codes

    def encode(self, images: Any) -> np.ndarray:
        """Images, one or more -> codes int32 [n, rows, columns].

        images: pixels uint8 [n, y, x, 3] of the model's size, or of one of its shapes;
        PIL images and paths of any size are fitted to the shape nearest to the first.
        """
        if not isinstance(images, np.ndarray):
            images = self._fitted(images)
        images = images[None] if images.ndim == 3 else images
        sizes = [(*self.of(shape).size, 3) for shape in self.shapes]
        if not images.size or images.shape[1:] not in sizes or images.dtype != np.uint8:
            expected = " or ".join(f"[n, {y}, {x}, 3]" for y, x, _ in sizes)
            raise UserError(
                f"encode expects uint8 pixels {expected}, n > 0, "
                f"got {images.dtype} {list(images.shape)}"
            )
        return encode(self._tokenizer, images, self.batch_size)

    def _fitted(self, images: Any) -> np.ndarray:
        """uint8 [n, y, x, 3] of what `as_images` takes, all of one of its sizes."""
        images = [on_white(image) for image in as_images(images)]
        own = self.of(self.shape_for(None, images[0].size[::-1]))
        return np.stack([fitted(image, own.size) for image in images])

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Codes int [n, rows, columns] -> pixels uint8 [n, y, x, 3]."""
        return decode(self._tokenizer, self.check_codes(codes), self.batch_size)

    def check_codes(self, codes: np.ndarray) -> np.ndarray:
        """The codes; UserError unless they are int [n, rows, columns] and in range."""
        codes, last = np.asarray(codes), self.num_codes - 1
        is_grid = codes.size and codes.shape[1:] in self.shapes
        if not is_grid or not np.issubdtype(codes.dtype, np.integer):
            expected = " or ".join(f"[n, {y}, {x}]" for y, x in self.shapes)
            raise UserError(
                f"codes are {codes.dtype} {list(codes.shape)}, expected integers "
                f"{expected}, n > 0"
            )
        if codes.min() < 0 or codes.max() > last:
            raise UserError(
                f"codes are from {codes.min()} to {codes.max()}, expected 0 to {last}"
            )
        return codes

    def pieces(self, text: str, what: str = "a text") -> list[int]:
        """Ids of a text, counted from 0; UserError for an empty one.

        A text that is longer than the model reads is a Notice.
        """
        ids = self.model.text.encode(check_text(text, what))
        if not ids:
            raise UserError(f"{what} has nothing that the model can read")
        if unread := self.unread(ids):
            say_unread(what, len(ids), self.layout.text_len, unread)
        return ids

    def prompts(
        self,
        pieces: Sequence[Sequence[int]],
        beside: Sequence[int] | None = None,
    ) -> tuple[Prompts, int]:
        """(prompts of pieces of texts, how many more are behind them).

        beside: of guidance, pieces of the text that images are to be unlike, () for an
        empty one; None without guidance.
        """
        if beside is None:
            return self.layout.prompts(pieces), 0
        return self.layout.prompts([*pieces, beside]), 1

    def prompt_rows(self, pieces: Sequence[Sequence[int]]) -> dict[str, np.ndarray]:
        """Prompts of pieces of texts as arrays by name, a row each."""
        fields = self.layout.prompts(pieces)._asdict().items()
        return {name: np.asarray(x, np.int32) for name, x in fields if x is not None}

    def _prompt_of(self, params: Any, row: Mapping[str, Any], guided: bool) -> Prompts:
        """`prompts` of one of `prompt_rows`, in a program.

        params: of the network, of which prompts may have some.
        """
        del params
        fields = (row[x][None] if x in row else None for x in Prompts._fields)
        prompt = Prompts(*fields)
        if not guided:
            return prompt
        join = lambda *x: jnp.concatenate(x, dtype=jnp.int32)  # noqa: E731
        return jax.tree.map(join, prompt, self.layout.prompts([()]))

    def unread(self, ids: Sequence[int]) -> str:
        """The end of a text that the model does not read, "" where it reads all."""
        return self.model.text.decode(ids[self.layout.text_len :])

    def one_for_each(
        self, codes: np.ndarray, texts: str | Sequence[str], what: str = "texts"
    ) -> list[str]:
        """A text for each of some code grids; a single one is for all.

        UserError for another number of texts.
        """
        texts = [texts] * len(codes) if isinstance(texts, str) else list(texts)
        if len(codes) != len(texts):
            raise UserError(f"{len(codes)} images but {len(texts)} {what}")
        return texts


def check_parts(model: Model, advice: str = "export it again", images: int = 1) -> None:
    """UserError unless tokenizers, layout, networks and sampler go together.

    advice: what to do about parts of other sizes. images: of a sequence.
    """
    layout, codes = model.layout, model["tokenizer"].config
    if layout is None or model.text is None:
        raise UserError("the model has no text.model or no layout: export it again")
    if not isinstance(model.sampler, Sampler):
        raise UserError(
            "the model's sampler is that of a cascade, and its images are codes: "
            "export it again"
        )
    transformer = model["transformer"].config
    rows, columns = (getattr(layout, "shapes", ()) or (2 * (codes.grid,),))[0]
    sizes = {
        "codes": (codes.codebook_size, layout.vocab.num_codes),
        "codes a sequence": (images * rows * columns, layout.image_len),
        "pieces of text": (model.text.size, layout.vocab.num_text),
        "ids": (transformer.vocab_size, layout.vocab.padded_size),
    }
    if "reconstructor" in model.components:
        own = model["reconstructor"].config
        sizes["pixels a side"] = own.tokenizer.image_size, codes.image_size
        sizes["values of a state"] = own.states_width, transformer.width
    for what, (one, other) in sizes.items():
        if one != other:
            raise UserError(
                f"the model's parts do not fit each other: {one} and {other} {what}; "
                f"{advice}"
            )
