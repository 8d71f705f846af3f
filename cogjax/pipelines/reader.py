"""A model reads: captions, answers and scores of pictures, given by their codes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cogjax.data.sequences import Prompts
from cogjax.errors import UserError
from cogjax.model import Model
from cogjax.models.image_lm import ImageLM
from cogjax.models.image_lm_config import ImageLMConfig, image_to_text
from cogjax.models.inference import scoring
from cogjax.pipelines.tokenize import chunks
from cogjax.sampling.tokens.autoregressive import Sampler, image_keys
from cogjax.sampling.tokens.compiled import compiled_beams, go_on, start
from cogjax.sampling.tokens.rerank import caption_losses, image_losses


@dataclass(frozen=True)
class Search:
    """How a text is chosen.

    temperature: 0 takes the most probable piece at every step, otherwise pieces are
    drawn, by `seed`. beams: above 1 the best text that so many beams find, by
    log-probability / length ** length_penalty (`tokens/beam.py`). rerank: of the
    `beams` best texts the one for which the picture's codes are likeliest as a drawing
    of it; of captions only.
    """

    temperature: float = 0.0
    seed: int = 0
    beams: int = 1
    length_penalty: float = 1.0
    rerank: bool = False

    def __post_init__(self):
        for name, least in (("temperature", 0), ("beams", 1), ("length_penalty", 0)):
            value = getattr(self, name)
            if not (value >= least and np.isfinite(value)):
                raise UserError(f"{name} is {value}, expected {least} or more")
        if self.beams > 1 and self.temperature:
            raise UserError("beams above 1 draw nothing: leave temperature at 0")
        if self.rerank and self.beams == 1:
            raise UserError("rerank chooses among beams: set beams to 2 or more, say 8")


class Reader:
    """The weights that draw, with the masks that read (`models/image_lm.py`).

    Codes are int [n, image_len]; batch_size: most rows in one call of the network.
    """

    def __init__(self, model: Model, params: Any, network: ImageLMConfig):
        """params: trained, or those of `for_inference`; network: that which draws."""
        self.text, self.layout = model.text, model.layout
        self.params = params
        self.drawer = ImageLM(network)
        self.network = ImageLM(image_to_text(network))
        # A family whose question has no place answers none.
        self.answerer = None
        if hasattr(self.layout, "question_prompts"):
            question = self.layout.num_text
            self.answerer = ImageLM(image_to_text(network, question=question))

    @property
    def id_range(self) -> tuple[int, int]:
        """Ids that a text may hold: pieces and commands."""
        return self.layout.vocab.text_start, self.layout.vocab.size

    def pieces(self, text: str) -> list[int]:
        """Ids of a text; UserError for an empty one."""
        ids = self.text.encode(text) if text.strip() else []
        if not ids:
            raise UserError("a prompt is empty: say what to draw")
        return ids

    def captions(
        self, codes: np.ndarray, language: str | None, search: Search, batch_size: int
    ) -> list[str]:
        """What each picture shows; language "en" or "zh" restricts the pieces."""

        def prompts(which: np.ndarray) -> Prompts:
            return self.layout.caption_prompts(codes[which])

        allowed = self.allowed(language)
        found = self._write(
            self.network, prompts, len(codes), allowed, search, batch_size
        )
        if search.rerank:
            found = self._likeliest_drawn(codes, found, batch_size)
        return [self.text.decode(texts[0]) for texts in found]

    def answers(
        self,
        codes: np.ndarray,
        questions: Sequence[str],
        search: Search,
        batch_size: int,
    ) -> list[str]:
        """An answer to question i about picture i.

        UserError for an empty or too long question, for a family without them, and for
        a search that reranks.
        """
        if search.rerank:
            raise UserError("rerank is for captions: nothing is drawn from an answer")
        if self.answerer is None:
            raise UserError(
                "this model answers no questions: train an ernie_vilg one with them "
                "(docs/questions.md)"
            )
        if len(codes) != len(questions):
            raise UserError(f"{len(codes)} images but {len(questions)} questions")
        pieces = [self._question(question) for question in questions]

        def prompts(which: np.ndarray) -> Prompts:
            asked = [pieces[i] for i in which]
            return self.layout.question_prompts(asked, codes[which])

        allowed = self.allowed(None)
        found = self._write(
            self.answerer, prompts, len(codes), allowed, search, batch_size
        )
        return [self.text.decode(texts[0]) for texts in found]

    def losses(
        self, codes: np.ndarray, texts: Sequence[str], batch_size: int
    ) -> np.ndarray:
        """Caption loss of text i given picture i: float32 [n], nats a text token."""
        pieces = [self.pieces(text) for text in texts]
        sequences = [
            self.layout.image_to_text(text, row)
            for text, row in zip(pieces, codes, strict=True)
        ]
        ids = np.stack([ids for ids, _ in sequences])
        weights = np.stack([weights for _, weights in sequences])
        # The end of the caption is not a text token: it says nothing of the picture.
        weights[ids == self.layout.vocab.command("[SEP]")] = 0
        positions = self.layout.reading_positions
        losses = [
            np.asarray(
                _score(
                    self.network, self.params, i, w, positions, id_range=self.id_range
                )
            )
            for i, w in zip(
                chunks(ids, batch_size), chunks(weights, batch_size), strict=True
            )
        ]
        return np.concatenate(losses)[: len(codes)]

    def drawing_losses(
        self, codes: np.ndarray, texts: Sequence[Sequence[int]], batch_size: int
    ) -> np.ndarray:
        """Loss of picture i as a drawing of text i: float32 [n], nats a code."""
        prompts = self.layout.prompts(texts)
        params = scoring(self.params, (0, self.layout.vocab.num_codes))
        parts = [chunks(np.asarray(rows), batch_size) for rows in (*prompts, codes)]
        losses = [
            np.asarray(_drawn(self.drawer, params, *part))
            for part in zip(*parts, strict=True)
        ]
        return np.concatenate(losses)[: len(codes)]

    def allowed(self, language: str | None) -> np.ndarray:
        """bool [text pieces + commands]: text in the language, and [SEP]."""
        vocab = self.layout.vocab
        allowed = np.zeros(vocab.size - vocab.text_start, bool)
        allowed[: vocab.num_text] = self.text.pieces_in(language)
        allowed[vocab.command("[SEP]") - vocab.text_start] = True
        return allowed

    def _write(
        self,
        network: ImageLM,
        prompts: Callable[[np.ndarray], Prompts],
        count: int,
        allowed: np.ndarray,
        search: Search,
        batch_size: int,
    ) -> list[list[list[int]]]:
        """Pieces of texts after prompts, of each of `count` rows the best text first.

        prompts: of some rows, int [k].
        """
        tokens, size = [], max(1, batch_size // search.beams)
        settings = {
            "allowed": jnp.asarray(allowed),
            "id_range": self.id_range,
            "stop": self.layout.vocab.command("[SEP]"),
        }
        for which in chunks(np.arange(count), size):
            rows = len(which) * search.beams
            forced = np.full((rows, self.layout.text_len), -1, np.int32)
            keys = image_keys(search.seed, len(tokens), rows)
            state = start(
                network,
                self.params,
                prompts(which),
                keys,
                forced,
                id_range=self.id_range,
            )
            if search.beams > 1:
                drawn, _ = compiled_beams(
                    network,
                    self.params,
                    state,
                    beams=search.beams,
                    length_penalty=np.float32(search.length_penalty),
                    wanted=search.beams if search.rerank else 1,
                    **settings,
                )
                drawn = np.asarray(drawn)
            else:
                sampler = Sampler(search.temperature).numbers()
                until = forced.shape[1]
                _, drawn = go_on(
                    network, self.params, state, until, sampler=sampler, **settings
                )
                drawn = np.asarray(drawn)[:, None]
            tokens.extend(drawn)
        return [[self._pieces_of(text) for text in row] for row in tokens[:count]]

    def _likeliest_drawn(
        self, codes: np.ndarray, found: list[list[list[int]]], batch_size: int
    ) -> list[list[list[int]]]:
        """The texts of each picture, first those that it is likeliest a drawing of.

        Places of the search that no text has taken are empty, and come last.
        """
        pairs = [
            (i, j) for i, row in enumerate(found) for j, text in enumerate(row) if text
        ]
        losses = np.full((len(found), len(found[0])), np.inf)
        if pairs:
            texts = [found[i][j] for i, j in pairs]
            rows = codes[[i for i, _ in pairs]]
            losses[tuple(zip(*pairs, strict=True))] = self.drawing_losses(
                rows, texts, batch_size
            )
        order = losses.argsort(1, kind="stable")
        return [[row[j] for j in best] for row, best in zip(found, order, strict=True)]

    def _question(self, text: str) -> list[int]:
        if not text.strip():
            raise UserError("a question is empty: ask something")
        pieces, most = self.text.encode(text), self.layout.text_len
        if len(pieces) > most:
            raise UserError(
                f"a question has {len(pieces)} pieces, the model reads {most}: ask "
                f"shorter, or train with a larger model.text_len"
            )
        return pieces

    def _pieces_of(self, tokens: np.ndarray) -> list[int]:
        """Of the ids int [m] of a text, up to its end."""
        vocab = self.layout.vocab
        ends = np.flatnonzero(tokens >= vocab.command_start)
        tokens = tokens[: ends[0]] if len(ends) else tokens
        return [int(i) - vocab.text_start for i in tokens]


_drawn = jax.jit(image_losses, static_argnums=0)
_score = jax.jit(caption_losses, static_argnums=0, static_argnames="id_range")
