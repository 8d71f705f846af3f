"""A model whose images are codes: its networks, its text pieces, images to codes."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

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
        """Pixels a side."""
        return self._tokenizer.config.image_size

    @property
    def grid(self) -> int:
        """Codes a side."""
        return self._tokenizer.config.grid

    @property
    def num_codes(self) -> int:
        """Codes that an image token may be."""
        return self.layout.vocab.num_codes

    def encode(self, images: np.ndarray) -> np.ndarray:
        """Pixels uint8 [n, y, x, 3] of the model's size -> codes int32 [n, g, g]."""
        images = np.asarray(images)
        images = images[None] if images.ndim == 3 else images
        size = (self.image_size, self.image_size, 3)
        if not images.size or images.shape[1:] != size or images.dtype != np.uint8:
            raise UserError(
                f"encode expects uint8 pixels [n, {size[0]}, {size[1]}, 3], n > 0, "
                f"got {images.dtype} {list(images.shape)}"
            )
        return encode(self._tokenizer, images, self.batch_size)

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Codes int [n, grid, grid] -> pixels uint8 [n, y, x, 3]."""
        return decode(self._tokenizer, self.check_codes(codes), self.batch_size)

    def check_codes(self, codes: np.ndarray) -> np.ndarray:
        """The codes; UserError unless they are int [n, grid, grid] and in range."""
        codes, grid, last = np.asarray(codes), self.grid, self.num_codes - 1
        is_grid = codes.size and codes.shape[1:] == (grid, grid)
        if not is_grid or not np.issubdtype(codes.dtype, np.integer):
            raise UserError(
                f"codes are {codes.dtype} {list(codes.shape)}, expected integers "
                f"[n, {grid}, {grid}], n > 0"
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
    sizes = {
        "codes": (codes.codebook_size, layout.vocab.num_codes),
        "codes a sequence": (images * codes.grid**2, layout.image_len),
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
