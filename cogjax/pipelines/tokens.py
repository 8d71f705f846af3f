"""A trained model as one object: generate, caption, ask, score, encode, decode.

    model = cogjax.load("emoji")
    model.generate("a red apple, 3D", num_images=4, seed=0).images[0].show()

A model is a folder (`model_folder.py`).
"""

import dataclasses
import functools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from cogjax import model_folder
from cogjax.data.images import as_square, stack_squares
from cogjax.errors import UserError
from cogjax.model import Component, Model
from cogjax.models.image_lm import ImageLM
from cogjax.models.inference import for_inference
from cogjax.ops.packed import WeightFormat
from cogjax.pipelines.reader import Reader, Search
from cogjax.pipelines.tokenize import chunks, decode, encode, reconstruct
from cogjax.sampling.tokens import speculative
from cogjax.sampling.tokens.autoregressive import SamplerNumbers, image_keys
from cogjax.sampling.tokens.compiled import go_on, start

Progress = Callable[[int, int, str], None]
Preview = Callable[[list[tuple[int, int]], np.ndarray], None]


@dataclass(frozen=True)
class Generation:
    """Images of P prompts, N each, best first if they were reranked.

    pixels: uint8 [p, n, y, x, 3]. codes: int32 [p, n, grid, grid]. scores: float32
    [p, n], caption loss in nats a text token (lower is better), None without rerank.
    """

    prompts: tuple[str, ...]
    pixels: np.ndarray
    codes: np.ndarray
    scores: np.ndarray | None

    @property
    def images(self) -> list[Image.Image]:
        """All images in one list, prompt by prompt."""
        flat = self.pixels.reshape(-1, *self.pixels.shape[2:])
        return [Image.fromarray(pixels) for pixels in flat]


class TextToImage:
    """A model of any family that draws, reads and scores with the same weights."""

    def __init__(
        self, model: Model, batch_size: int = 16, weights: WeightFormat = "float32"
    ):
        """batch_size: most rows in one call of the network. weights: as of `load`.

        Raises UserError for a model whose parts do not go together.
        """
        _check_parts(model)
        self.model = model
        self.batch_size = batch_size
        self.layout = model.layout
        transformer, tokenizer = model["transformer"], model["tokenizer"]
        network = dataclasses.replace(transformer.config, remat="none", dropout=0.0)
        self._lm = ImageLM(network)
        self._lm_params = for_inference(transformer.params, weights)
        self._reader = Reader(model, self._lm_params, network)
        arrays = tokenizer.params, tokenizer.state
        self._tokenizer = Component(
            tokenizer.config, *jax.tree.map(jnp.asarray, arrays)
        )

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

    @property
    def card(self) -> dict[str, Any]:
        """Model card: name, version, data, licences, training, figures."""
        return self.model.card

    def generate(
        self,
        prompts: str | Sequence[str],
        num_images: int = 1,
        seed: int = 0,
        *,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        guidance: float | None = None,
        rerank: int = 0,
        image_prompt: Image.Image | np.ndarray | None = None,
        rows: int = 0,
        progress: Progress | None = None,
        preview: Preview | None = None,
        speculate: int = 0,
        decode: Literal["codes", "hidden"] | None = None,
    ) -> Generation:
        """Draws images for prompts in any language the model was trained on.

        Args:
          num_images: images a prompt. Image i of a seed is the same whatever is drawn
            beside it.
          temperature, top_k, top_p, guidance: None takes the model's own default.
          rerank: draw this many candidates and keep the `num_images` with the lowest
            caption loss, best first; 0 is off.
          image_prompt, rows: keep the first `rows` of the grid's code rows of this
            picture and complete the rest (CogView's image prompting).
          progress: called with (done, total, label).
          preview: called for every finished row of codes with the (prompt, image)
            indices of the images being drawn and their codes int32 [k, grid, grid], -1
            where they are to come.
          speculate: draft this many codes a step (`tokens/speculative.py`): fewer
            steps, other pictures of the same distribution; 0 is off.
          decode: "codes" by the image tokenizer, "hidden" by `reconstruct`; None is
            "hidden" for a model that was trained end to end.

        Raises:
          UserError: an empty prompt or a value out of range.
        """
        prompts = (prompts,) if isinstance(prompts, str) else tuple(prompts)
        self._check_generate(prompts, num_images, rerank, image_prompt, rows)
        self._check_speculate(speculate, preview)
        hidden = self.decoding(decode) == "hidden"
        sampler = self._sampler(temperature, top_k, top_p, guidance)
        progress = progress or (lambda done, total, label: None)
        forced = self._forced(image_prompt, rows)
        count = max(num_images, rerank)
        draw = functools.partial(
            self._draw_batch, forced=forced, sampler=sampler, speculate=speculate
        )
        codes = self._draw(prompts, count, seed, draw, progress, preview)
        scores = None
        if rerank:
            codes, scores = self._best(prompts, codes, num_images, progress)
        return self._made(prompts, codes, scores, hidden)

    def caption(
        self,
        images: Sequence[Image.Image | np.ndarray] | np.ndarray,
        language: str | None = None,
        *,
        temperature: float = 0.0,
        seed: int = 0,
        beams: int = 1,
        length_penalty: float = 1.0,
        rerank: bool = False,
    ) -> list[str]:
        """Describes images; language "en" or "zh" restricts the pieces, None does not.

        The text is chosen as `reader.Search` says: the most probable piece at every
        step, drawn with a temperature, the best that some beams find, or, with
        `rerank`, that of the beams' texts from which the model would likeliest draw the
        picture.
        """
        search = Search(temperature, seed, beams, length_penalty, rerank)
        codes = self.encode(stack_squares(images, self.image_size))
        return self.caption_codes(codes, language, search)

    def caption_codes(
        self, codes: np.ndarray, language: str | None, search: Search
    ) -> list[str]:
        """As `caption`, for code grids int [n, grid, grid]."""
        flat = codes.reshape(len(codes), -1)
        return self._reader.captions(flat, language, search, self.batch_size)

    def ask(
        self,
        images: Sequence[Image.Image | np.ndarray] | np.ndarray,
        questions: str | Sequence[str],
        *,
        temperature: float = 0.0,
        seed: int = 0,
        beams: int = 1,
        length_penalty: float = 1.0,
    ) -> list[str]:
        """Answers question i about image i, or one question about each image.

        For models that were trained with questions (docs/questions.md); the text is
        chosen as in `caption`. UserError for an empty or too long question, and for a
        family that has none.
        """
        search = Search(temperature, seed, beams, length_penalty)
        codes = self.encode(stack_squares(images, self.image_size))
        return self.ask_codes(codes, questions, search)

    def ask_codes(
        self, codes: np.ndarray, questions: str | Sequence[str], search: Search
    ) -> list[str]:
        """As `ask`, for code grids int [n, grid, grid]."""
        questions = _for_each(codes, questions)
        flat = codes.reshape(len(codes), -1)
        return self._reader.answers(flat, questions, search, self.batch_size)

    def score(
        self,
        images: Sequence[Image.Image | np.ndarray] | np.ndarray,
        texts: str | Sequence[str],
    ) -> np.ndarray:
        """Caption loss of text i given image i: float32 [n], nats a text token.

        One text is scored for each image. Lower is better (CogView section 3.4).
        UserError for an empty text.
        """
        codes = self.encode(stack_squares(images, self.image_size))
        return self.score_codes(codes, texts)

    def score_codes(self, codes: np.ndarray, texts: str | Sequence[str]) -> np.ndarray:
        """As `score`, for code grids int [n, grid, grid]."""
        texts = _for_each(codes, texts)
        if len(codes) != len(texts):
            raise UserError(f"{len(codes)} images but {len(texts)} texts to score")
        flat = codes.reshape(len(codes), -1)
        return self._reader.losses(flat, texts, self.batch_size)

    def score_drawn(self, codes: np.ndarray, texts: str | Sequence[str]) -> np.ndarray:
        """Loss of code grids [n, grid, grid] as drawings of text i: float32 [n].

        In nats a code, lower is better: the other direction of `score_codes`.
        """
        texts = _for_each(codes, texts)
        if len(codes) != len(texts):
            raise UserError(f"{len(codes)} images but {len(texts)} texts to score")
        flat = codes.reshape(len(codes), -1)
        pieces = [self._reader.pieces(text) for text in texts]
        return self._reader.drawing_losses(flat, pieces, self.batch_size)

    @property
    def answers_questions(self) -> bool:
        """Whether the family has a place for questions; learning them is another."""
        return self._reader.answerer is not None

    def encode(self, images: np.ndarray) -> np.ndarray:
        """Pixels uint8 [b, y, x, 3] of the model's size -> codes int32 [b, g, g]."""
        images = np.asarray(images)
        images = images[None] if images.ndim == 3 else images
        size = (self.image_size, self.image_size, 3)
        if not images.size or images.shape[1:] != size or images.dtype != np.uint8:
            raise UserError(
                f"encode expects uint8 pixels [b, {size[0]}, {size[1]}, 3], b > 0, "
                f"got {images.dtype} {list(images.shape)}"
            )
        return encode(self._tokenizer, images, self.batch_size)

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Codes int [b, grid, grid] -> pixels uint8 [b, y, x, 3]."""
        codes = np.asarray(codes)
        if not codes.size or codes.shape[1:] != (self.grid, self.grid):
            raise UserError(
                f"decode expects codes [b, {self.grid}, {self.grid}], b > 0, "
                f"got {list(codes.shape)}"
            )
        return decode(self._tokenizer, codes, self.batch_size)

    def reconstruct(self, codes: np.ndarray, texts: str | Sequence[str]) -> np.ndarray:
        """`decode` from the states that predict the codes of a text each, "" for none.

        UserError for a model without a reconstructor.
        """
        self.decoding("hidden")
        texts = _for_each(codes, texts)
        prompts = self.layout.prompts([self.model.text.encode(text) for text in texts])
        network = self.model["reconstructor"], self._lm, self._lm_params
        return reconstruct(*network, prompts, codes, self.batch_size)

    def decoding(self, decode: str | None = None) -> str:
        """What pictures are made from, "codes" or "hidden" states; None: as trained.

        UserError for anything else, and for "hidden" without a reconstructor.
        """
        if decode not in (None, "codes", "hidden"):
            raise UserError(f"decode is {decode!r}, expected 'codes' or 'hidden'")
        there = "reconstructor" in self.model.components
        if decode == "hidden" and not there:
            raise UserError(
                "decode 'hidden' needs a model trained end to end, and this one has no "
                "reconstructor: choose 'codes'"
            )
        return decode or ("hidden" if there else "codes")

    def save(self, folder: str | os.PathLike, dtype: str | None = None) -> Path:
        """Writes the model folder; `dtype` "float16" halves its size.

        A model there is replaced; UserError if the folder holds anything else.
        """
        return model_folder.save(self.model, Path(folder), dtype)

    def _check_generate(self, prompts, num_images, rerank, image_prompt, rows):
        if not prompts:
            raise UserError("there is no prompt: give at least one")
        for prompt in prompts:
            self._reader.pieces(prompt)
        if num_images < 1:
            raise UserError(f"num_images is {num_images}, expected at least 1")
        if rerank and rerank < num_images:
            raise UserError(
                f"rerank is {rerank}: it must be at least num_images, {num_images}"
            )
        if (image_prompt is None) != (rows == 0):
            raise UserError("image_prompt and rows go together: give both or neither")
        if not 0 <= rows <= self.grid:
            raise UserError(f"rows is {rows}, expected 1 to {self.grid}")

    def _check_speculate(self, speculate, preview):
        if speculate and not 2 <= speculate <= self.layout.image_len:
            most = self.layout.image_len
            raise UserError(f"speculate is {speculate}, expected 0 or 2 to {most}")
        if speculate and preview is not None:
            raise UserError("speculate has no preview: rows are not finished in turn")

    def _forced(self, image_prompt, rows) -> np.ndarray:
        """Codes of the kept rows, -1 where one is to be drawn: int32 [image_len]."""
        forced = np.full((self.layout.image_len,), -1, np.int32)
        if rows:
            codes = self.encode(as_square(image_prompt, self.image_size))
            forced[: rows * self.grid] = codes[0, :rows].reshape(-1)
        return forced

    def _sampler(self, temperature, top_k, top_p, guidance) -> SamplerNumbers:
        given = {
            "temperature": temperature,
            "top_k": top_k,
            "top_p": top_p,
            "guidance": guidance,
        }
        given = {name: value for name, value in given.items() if value is not None}
        try:
            return dataclasses.replace(self.model.sampler, **given).numbers()
        except ValueError as error:
            raise UserError(str(error)) from error

    def _draw(self, prompts, count, seed, draw, progress, preview) -> np.ndarray:
        """Codes int32 [p, count, image_len]: batches of q prompts by g images each."""
        total = len(prompts) * count
        calls = -(-count // self.batch_size)
        num_images = -(-count // calls)
        num_prompts = max(1, self.batch_size // num_images)
        texts = [self._reader.pieces(prompt) for prompt in prompts]
        codes = np.zeros((len(prompts), count, self.layout.image_len), np.int32)
        keys = image_keys(seed, 0, count)
        done = 0
        for which in chunks(np.arange(len(prompts)), num_prompts):
            for images in chunks(np.arange(count), num_images):
                progress(done, total, "drawing")
                pairs = [(int(p), int(i)) for p in which for i in images]
                report = None
                if preview is not None:
                    report = functools.partial(self._report, preview, pairs)
                drawn = draw(
                    [texts[p] for p in which],
                    jnp.tile(keys[images], len(which)),
                    report=report,
                )
                drawn = drawn.reshape(len(which), len(images), -1)
                codes[np.ix_(which, images)] = drawn
                done = min(total, done + len(pairs))
        progress(total, total, "drawing")
        return codes

    def _draw_batch(
        self, texts, keys, *, report, forced, sampler, speculate
    ) -> np.ndarray:
        """Tokens int32 [b, m] of b images, b / q for each text."""
        guided = sampler.guidance is not None
        state = start(
            self._lm,
            self._lm_params,
            self.layout.prompts([*texts, ()] if guided else texts),
            keys,
            np.tile(forced, (len(keys), 1)),
            id_range=(0, self.num_codes),
            guided=guided,
            window=max(speculate, 1),
        )
        common = {
            "allowed": jnp.ones(self.num_codes, bool),
            "id_range": (0, self.num_codes),
            "sampler": sampler,
        }
        if speculate:
            drawn, _ = _speculate(
                self._lm, self._lm_params, state, keys, window=speculate, **common
            )
            return np.asarray(drawn)
        step = functools.partial(go_on, self._lm, self._lm_params, **common)
        if report is None:
            return np.asarray(step(state, len(forced))[1])
        # A row is reported while the next is drawn.
        state, drawn = step(state, self.grid)
        for until in range(2 * self.grid, len(forced) + 1, self.grid):
            state, following = step(state, until)
            report(np.asarray(drawn), until - self.grid)
            drawn = following
        report(np.asarray(drawn), len(forced))
        return np.asarray(drawn)

    def _report(self, preview, pairs, tokens, count) -> None:
        codes = np.where(np.arange(tokens.shape[1]) < count, tokens, -1)
        preview(pairs, codes.reshape(-1, self.grid, self.grid))

    def _made(self, prompts, codes, scores, hidden: bool) -> Generation:
        """Of codes [p, n, m] and their scores."""
        lead, flat = codes.shape[:2], codes.reshape(-1, self.grid, self.grid)
        texts = np.repeat(prompts, lead[1])
        pixels = self.reconstruct(flat, texts) if hidden else self.decode(flat)
        pixels = pixels.reshape(*lead, *pixels.shape[1:])
        return Generation(prompts, pixels, flat.reshape(*lead, *flat.shape[1:]), scores)

    def _best(self, prompts, codes, num_images, progress):
        """Keeps the candidates [p, count, m] with the lowest caption loss."""
        num_prompts, count, _ = codes.shape
        progress(0, num_prompts * count, "reranking")
        texts = [prompt for prompt in prompts for _ in range(count)]
        grids = codes.reshape(-1, self.grid, self.grid)
        scores = self.score_codes(grids, texts).reshape(num_prompts, count)
        progress(num_prompts * count, num_prompts * count, "reranking")
        order = np.argsort(scores, axis=1, kind="stable")[:, :num_images]
        return (
            np.take_along_axis(codes, order[..., None], axis=1),
            np.take_along_axis(scores, order, axis=1),
        )


def _check_parts(model: Model) -> None:
    """UserError unless tokenizers, layout, transformer and reconstructor agree."""
    layout, codes = model.layout, model["tokenizer"].config
    if layout is None or model.text is None:
        raise UserError("the model has no text.model or no layout: export it again")
    transformer = model["transformer"].config
    sizes = {
        "codes": (codes.codebook_size, layout.vocab.num_codes),
        "codes an image": (codes.grid**2, layout.image_len),
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
                "export it again"
            )


def _for_each(codes: np.ndarray, texts: str | Sequence[str]) -> Sequence[str]:
    """A text for each of some code grids: a single one is for all."""
    return [texts] * len(codes) if isinstance(texts, str) else texts


_speculate = jax.jit(
    speculative.speculate,
    static_argnums=0,
    static_argnames=("id_range", "window"),
)
