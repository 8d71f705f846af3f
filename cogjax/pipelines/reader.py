"""A model reads: captions, answers and scores of images, which are codes."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from cogjax.data.images import as_images
from cogjax.data.sequences import Prompts
from cogjax.errors import UserError
from cogjax.model import Model
from cogjax.models.image_lm import ImageLM
from cogjax.models.image_lm_config import image_to_text
from cogjax.models.inference import scoring
from cogjax.ops.packed import WeightFormat
from cogjax.pipelines.checks import (
    MAX_BEAMS,
    MAX_LENGTH_PENALTY,
    MAX_SEED,
    MAX_TEMPERATURE,
    check_number,
    check_text,
    check_whole,
)
from cogjax.pipelines.contracts import RowProgram
from cogjax.pipelines.image_scores import ImageScores
from cogjax.pipelines.tokenize import padded_batches
from cogjax.sampling.tokens.autoregressive import (
    OutputIds,
    Sampler,
    compiled_advance,
    compiled_prefill,
    image_keys,
)
from cogjax.sampling.tokens.beam import compiled_beam_search
from cogjax.sampling.tokens.rerank import caption_losses, compiled_caption_losses

OneImage = Image.Image | np.ndarray | str | os.PathLike
# What `as_images` takes.
Images = OneImage | Sequence[OneImage]


@dataclass(frozen=True)
class Search:
    """How a text is chosen. UserError for a value out of range.

    temperature: 0 takes the most probable piece at every step, otherwise pieces are
    sampled, by `seed`. beams: above 1 the best text that so many beams find, by
    log-probability / length ** length_penalty (`tokens/beam.py`). rerank: of the
    `beams` best texts the one for which the image's codes are likeliest; of captions
    only.
    """

    temperature: float = 0.0
    seed: int = 0
    beams: int = 1
    length_penalty: float = 1.0
    rerank: bool = False

    def __post_init__(self):
        check_number("temperature", self.temperature, 0, MAX_TEMPERATURE)
        check_whole("seed", self.seed, 0, MAX_SEED)
        check_whole("beams", self.beams, 1, MAX_BEAMS)
        check_number("length_penalty", self.length_penalty, 0, MAX_LENGTH_PENALTY)
        if self.beams > 1 and self.temperature:
            raise UserError("beams above 1 sample nothing: leave temperature at 0")
        if self.rerank and self.beams == 1:
            raise UserError("rerank chooses among beams: set beams to 2 or more, say 8")


class TokensReader(ImageScores):
    """The weights that generate, with the masks that read (`models/image_lm.py`)."""

    def __init__(
        self, model: Model, batch_size: int = 16, weights: WeightFormat = "float32"
    ):
        """As of `TokensModel`."""
        super().__init__(model, batch_size, weights)
        network, vocab = self._generator.config, self.layout.vocab
        self.captioner = ImageLM(image_to_text(network))
        # A layout whose questions have no place answers none.
        self._answerer = None
        if hasattr(self.layout, "question_prompts"):
            self._answerer = ImageLM(
                image_to_text(network, question=self.layout.num_text)
            )
        self._text_range = vocab.text_start, vocab.size
        self._text_params = scoring(self._params, self._text_range)

    @property
    def answers_questions(self) -> bool:
        """Whether questions have a place in its sequences; learning is another."""
        return self._answerer is not None

    def caption(
        self,
        images: Images,
        language: str | None = None,
        *,
        temperature: float = 0.0,
        seed: int = 0,
        beams: int = 1,
        length_penalty: float = 1.0,
        rerank: bool = False,
    ) -> list[str]:
        """Describes images; language "en" or "zh" restricts the pieces, None does not.

        The text is chosen as `Search` says: the most probable piece at every step,
        sampled with a temperature, the best that some beams find, or, with `rerank`,
        that of the beams' texts from which the model would likeliest generate the
        image.
        """
        search = Search(temperature, seed, beams, length_penalty, rerank)
        found = {}
        for own, which, codes in self.by_shape(images):
            texts = own.caption_codes(codes, language, search)
            found |= zip(which, texts, strict=True)
        return [found[i] for i in sorted(found)]

    def caption_codes(
        self, codes: np.ndarray, language: str | None, search: Search
    ) -> list[str]:
        """As `caption`, for code grids int [n, rows, columns]."""
        own, flat = self._flat(codes)

        def prompts(which: np.ndarray) -> Prompts:
            return own.layout.caption_prompts(flat[which])

        ids = self.text_ids(language)
        found = self._write(self.captioner, prompts, len(flat), ids, search)
        if search.rerank:
            found = own._likeliest_image(flat, found)
        return [self.model.text.decode(texts[0]) for texts in found]

    def ask(
        self,
        images: Images,
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
        model without them.
        """
        search = Search(temperature, seed, beams, length_penalty)
        images, found = as_images(images), {}
        questions = self.one_for_each(images, questions, "questions")
        for own, which, codes in self.by_shape(images):
            texts = own.ask_codes(codes, [questions[i] for i in which], search)
            found |= zip(which, texts, strict=True)
        return [found[i] for i in sorted(found)]

    def ask_codes(
        self, codes: np.ndarray, questions: str | Sequence[str], search: Search
    ) -> list[str]:
        """As `ask`, for code grids int [n, rows, columns]; a search does not rerank."""
        own, flat = self._flat(codes)
        if search.rerank:
            raise UserError("rerank is for captions: an answer generates no image")
        if self._answerer is None:
            raise UserError(
                "this model answers no questions: take one that was trained with them, "
                "such as shapes-ernie (docs/questions.md)"
            )
        questions = self.one_for_each(flat, questions, "questions")
        pieces = [self._question(question) for question in questions]

        def prompts(which: np.ndarray) -> Prompts:
            return own.layout.question_prompts([pieces[i] for i in which], flat[which])

        ids = self.text_ids(None)
        found = self._write(self._answerer, prompts, len(flat), ids, search)
        return [self.model.text.decode(texts[0]) for texts in found]

    def score(self, images: Images, texts: str | Sequence[str]) -> np.ndarray:
        """Caption loss of text i given image i: float32 [n], nats a text token.

        One text is scored for each image. Lower is better (CogView section 3.4).
        UserError for an empty text.
        """
        images = as_images(images)
        texts, found = (
            self.one_for_each(images, texts),
            np.zeros(len(images), np.float32),
        )
        for own, which, codes in self.by_shape(images):
            found[which] = own.score_codes(codes, [texts[i] for i in which])
        return found

    def score_codes(self, codes: np.ndarray, texts: str | Sequence[str]) -> np.ndarray:
        """As `score`, for code grids int [n, rows, columns]."""
        own, flat = self._flat(codes)
        texts = self.one_for_each(flat, texts)
        return own._caption_losses(flat, [self.pieces(text) for text in texts])

    def text_ids(self, language: str | None) -> OutputIds:
        """Ids of a text: pieces in the language, and [SEP], its end, if it has one."""
        vocab = self.layout.vocab
        allowed = np.zeros(vocab.size - vocab.text_start, bool)
        allowed[: vocab.num_text] = self.model.text.pieces_in(language)
        end = None if self._caption_len else vocab.command("[SEP]")
        if end is not None:
            allowed[end - vocab.text_start] = True
        return OutputIds(allowed, vocab.text_start, end)

    @property
    def _caption_len(self) -> int:
        """Pieces of a text that has no end, 0 for texts with one."""
        return getattr(self.layout, "caption_len", 0)

    def caption_rows(
        self, codes: np.ndarray, pieces: Sequence[Sequence[int]]
    ) -> tuple[np.ndarray, np.ndarray]:
        """What a caption's loss is computed of, for text i and codes [n, image_len].

        Returns ids int32 [n, t] and weights float32 [n, t], 1 on the tokens of texts.
        """
        sequences = [
            self.layout.image_to_text(text, row)
            for text, row in zip(pieces, codes, strict=True)
        ]
        ids = np.stack([ids for ids, _ in sequences])
        weights = np.stack([weights for _, weights in sequences])
        # The end of the caption is not a text token: it says nothing of the image.
        weights[ids == self.layout.vocab.command("[SEP]")] = 0
        return ids, weights

    def _caption_losses(
        self, codes: np.ndarray, pieces: Sequence[Sequence[int]]
    ) -> np.ndarray:
        """Loss of text i given codes [n, image_len]: float32 [n], nats a text token."""
        ids, weights = self.caption_rows(codes, pieces)
        network, positions = self.captioner, self.layout.reading_positions
        first_id = self.layout.vocab.text_start
        batches = (padded_batches(rows, self.batch_size) for rows in (ids, weights))
        losses = [
            compiled_caption_losses(
                network, self._text_params, *rows, positions, first_id=first_id
            )
            for rows in zip(*batches, strict=True)
        ]
        return np.concatenate(losses)[: len(codes)]

    def score_program(self, codes: np.ndarray, text: str) -> RowProgram:
        """`score_codes`: ids int32 and weights float32 [n, t] of codes and their texts.

        codes, text: the example, int [n, rows, columns] and one for all.
        """
        pieces = [self.pieces(text)] * len(codes)
        ids, weights = self.caption_rows(self._flat(codes)[1], pieces)
        rows = {"ids": np.asarray(ids, np.int32), "weights": weights}
        losses = np.concatenate([self.score_codes(x[None], text) for x in codes])
        part = "transformer", self._params, rows, {}, {"losses": losses}
        return RowProgram(self._score_row, *part)

    def _score_row(self, params: Any, row: Mapping, shared: Mapping) -> dict:
        del shared
        rows, positions = (row["ids"], row["weights"]), self.layout.reading_positions
        own = scoring(params, self._text_range)
        found = caption_losses(
            self.captioner,
            own,
            *(x[None] for x in rows),
            positions,
            first_id=self._text_range[0],
        )
        return {"losses": found[0]}

    def _write(
        self,
        network: ImageLM,
        prompts: Callable[[np.ndarray], Prompts],
        count: int,
        ids: OutputIds,
        search: Search,
    ) -> list[list[list[int]]]:
        """Pieces of texts after prompts, of each of `count` rows the best text first.

        prompts: of some rows, int [k].
        """
        tokens, size = [], max(1, self.batch_size // search.beams)
        for which in padded_batches(np.arange(count), size):
            rows = len(which) * search.beams
            keys = image_keys(search.seed, len(tokens), rows)
            tokens.extend(self._texts(network, prompts(which), keys, ids, search))
        return [[self._pieces_of(text) for text in row] for row in tokens[:count]]

    def _texts(
        self, network: ImageLM, prompts: Prompts, keys: Any, ids, search: Search
    ) -> np.ndarray:
        """Ids int [k, wanted, text_len] of the best texts after k prompts."""
        length = self._caption_len or self.layout.text_len
        forced = np.full((len(keys), length), -1, np.int32)
        start = network, self._text_params
        state = compiled_prefill(*start, prompts, keys, forced)
        if search.beams == 1:
            sampler = Sampler(search.temperature).numbers()
            _, tokens = compiled_advance(
                *start, state, length, ids=ids, sampler=sampler
            )
            return np.asarray(tokens)[:, None]
        tokens, _ = compiled_beam_search(
            *start,
            state,
            ids=ids,
            beams=search.beams,
            length_penalty=np.float32(search.length_penalty),
            wanted=search.beams if search.rerank else 1,
        )
        return np.asarray(tokens)

    def _likeliest_image(
        self, codes: np.ndarray, found: list[list[list[int]]]
    ) -> list[list[list[int]]]:
        """The texts of each image, first those for which its codes are likeliest.

        Places of the search that no text has taken are empty, and come last.
        """
        pairs = [
            (i, j) for i, row in enumerate(found) for j, text in enumerate(row) if text
        ]
        losses = np.full((len(found), len(found[0])), np.inf)
        if pairs:
            texts = [found[i][j] for i, j in pairs]
            rows = codes[[i for i, _ in pairs]]
            losses[tuple(zip(*pairs, strict=True))] = self._image_losses(rows, texts)
        order = losses.argsort(1, kind="stable")
        return [[row[j] for j in best] for row, best in zip(found, order, strict=True)]

    def _question(self, text: str) -> list[int]:
        pieces = self.model.text.encode(check_text(text, "a question"))
        most = self.layout.text_len
        if len(pieces) > most:
            raise UserError(
                f"a question has {len(pieces)} pieces, the model reads {most}: ask "
                f"shorter, or train with a larger model.text_len"
            )
        return pieces

    def _pieces_of(self, tokens: np.ndarray) -> list[int]:
        """The ids int [m] of a text up to its end, counted from 0."""
        vocab = self.layout.vocab
        ends = np.flatnonzero(tokens >= vocab.command_start)
        tokens = tokens[: ends[0]] if len(ends) else tokens
        return [int(i) - vocab.text_start for i in tokens]
