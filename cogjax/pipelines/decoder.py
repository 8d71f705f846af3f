"""Models that draw codes after a prompt and write no text: of classes, or of captions.

    model = cogjax.load("llamagen")
    model.generate("207", guidance=4.0).images[0].show()

What fits a prompt best is the image whose codes are likeliest.
"""

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cogjax.data.images import stack_squares
from cogjax.data.sequences import Prompts
from cogjax.errors import UserError
from cogjax.model import Model
from cogjax.ops.packed import WeightFormat
from cogjax.pipelines.contracts import RowProgram
from cogjax.pipelines.image_scores import ImageScores
from cogjax.pipelines.request import Request
from cogjax.pipelines.text_encoder import text_encoder_of, vectors_of
from cogjax.pipelines.tokens import CodeByCode, losses_of_candidates
from cogjax.sampling.tokens.autoregressive import compiled_advance, compiled_prefill


class DecoderPipeline(CodeByCode, ImageScores):
    """A `Generator`, `Scorer` and `Codec`."""

    def score(self, images: Any, texts: str | Sequence[str]) -> np.ndarray:
        """Loss of image i given text i: float32 [n], nats a code, lower is better.

        Comparable between images of one text, and not between texts.
        """
        return self.image_losses(
            self.encode(stack_squares(images, self.image_size)), texts
        )

    def row_programs(self, request: Request) -> dict[str, RowProgram]:
        """As of `TokensGenerator`, and `score` of prompts and their codes."""
        found = super().row_programs(request)
        codes, rows = found["generate"].outputs["codes"], found["generate"].rows
        rows = {k: x for k, x in rows.items() if k not in ("forced", "image")}
        losses = [self.image_losses(x[None], request.texts[0]) for x in codes]
        part = rows | {"codes": codes}, {}, {"losses": np.concatenate(losses)}
        part = "transformer", self._params, *part
        return found | {"score": RowProgram(self._score_row, *part)}

    def _score_row(self, weights: Any, row: Mapping, shared: Mapping) -> dict:
        del shared
        params = self._scoring_codes(weights)
        prompt = self._prompt_of(params, row, guided=False)
        codes = row["codes"].reshape(1, -1)
        [losses] = self._losses_of_codes(self._generator, params, prompt, codes)
        return {"losses": jnp.mean(losses)}

    def _scores(
        self, request: Request, pieces, codes: np.ndarray, rerank_by, progress
    ) -> np.ndarray:
        """By the loss of the codes, if there is no other way."""
        if rerank_by is not None:
            return super()._scores(request, pieces, codes, rerank_by, progress)
        return losses_of_candidates(self._image_losses, pieces, codes, progress)


class CaptionDecoder(DecoderPipeline):
    """A `DecoderPipeline` that reads the vectors of a text encoder.

    Without a prompt it reads vectors of its own, as many as the prompt has.
    """

    def __init__(
        self, model: Model, batch_size: int = 16, weights: WeightFormat = "float32"
    ):
        """As of `TokensModel`; `weights` is of the transformer, not the encoder."""
        super().__init__(model, batch_size, weights)
        self._encoder = text_encoder_of(model)

    def pieces(self, text: str, what: str = "a text") -> list[int]:
        """As of `TokensModel`, of a caption as those of training were cleaned."""
        return super().pieces(self.layout.clean(text), what)

    def prompts(
        self,
        pieces: Sequence[Sequence[int]],
        beside: Sequence[int] | None = None,
    ) -> tuple[Prompts, int]:
        """As of `TokensModel`; there is an empty prompt for each."""
        if beside:
            return self.prompts([*pieces, beside])[0], 1
        tokens, mask, rows = self._encoded(pieces)
        counts = mask.sum(axis=1, dtype=np.int32)[rows]  # [q]
        vectors = _at_the_end(tokens, rows, counts, self.layout.prompt_len)
        if beside is None:
            return self.layout.captions(vectors, counts), 0
        vectors = _with_none(vectors, self._params["null_caption"])
        return self.layout.captions(vectors, np.tile(counts, 2)), len(pieces)

    def prompt_rows(self, pieces: Sequence[Sequence[int]]) -> dict[str, np.ndarray]:
        """Outputs of the text encoder: tokens [n, t, d] and mask bool [n, t]."""
        tokens, mask, rows = self._encoded(pieces)
        length = self._encoder.config.text_len
        return vectors_of(np.asarray(tokens)[rows], mask[rows], length)

    def _prompt_of(self, params: Any, row: Mapping[str, Any], guided: bool) -> Prompts:
        counts = jnp.sum(row["mask"], dtype=jnp.int32)[None]
        first = jnp.zeros(1, jnp.int32)
        tokens = row["tokens"][None]
        vectors = _at_the_end(tokens, first, counts, self.layout.prompt_len)
        if guided:
            vectors = _with_none(vectors, params["null_caption"])
            counts = jnp.tile(counts, 2)
        return self.layout.captions(vectors, counts)

    def _encoded(
        self, pieces: Sequence[Sequence[int]]
    ) -> tuple[jax.Array, np.ndarray, np.ndarray]:
        """(tokens [p, n, d], mask bool [p, n], row of each text among them)."""
        # Candidates of one caption share it: each is encoded once.
        places = {text: i for i, text in enumerate(dict.fromkeys(map(tuple, pieces)))}
        tokens, mask, _ = self._encoder.encode_pieces(list(places))
        rows = np.array([places[tuple(text)] for text in pieces])
        return tokens, np.asarray(mask), rows


@jax.jit
def _with_none(vectors: jax.Array, null: jax.Array) -> jax.Array:
    """Captions [q, t, f], and so many of no caption [t, f] behind them."""
    return jnp.concatenate([vectors, jnp.broadcast_to(null, vectors.shape)])


@functools.partial(jax.jit, static_argnums=3)
def _at_the_end(
    tokens: jax.Array, rows: jax.Array, counts: jax.Array, length: int
) -> jax.Array:
    """The first `counts` [q] of the n vectors of some rows [q] of tokens [p, n, f].

    They stand at the end of [q, length, f], behind zeros.
    """
    tokens = tokens[rows]
    source = jnp.arange(length) - (length - counts[:, None])  # [q, length]
    taken = jnp.take_along_axis(tokens, jnp.maximum(source, 0)[..., None], axis=1)
    return jnp.where((source >= 0)[..., None], taken, 0)


class ShiftedDecoder(DecoderPipeline):
    """A `DecoderPipeline` whose prompts end in the first place of the image.

    Each code then stands a place behind its own, and the last is read by none.
    """

    def _check(self, request: Request, preview, rerank_by) -> None:
        """UserError for what this model cannot do."""
        super()._check(request, preview, rerank_by)
        if request.speculate:
            raise UserError(
                "speculate is not for a model whose codes are shifted: leave it out"
            )

    def _generate_codes(
        self, request: Request, pieces: list[list[int]], progress, preview
    ) -> np.ndarray:
        """UserError, before any image, for a guided prompt that ends as none does."""
        beside = self._beside(request)
        if beside is not None and np.ptp(self.prompts(pieces, beside)[0].ids[:, -1]):
            raise UserError("guidance needs prompts that do not fill all of the text")
        return super()._generate_codes(request, pieces, progress, preview)

    def _sample(
        self, pieces, keys, forced, request: Request, preview: bool
    ) -> Iterator[tuple[np.ndarray, int]]:
        """The last token of each prompt is the first that is forced."""
        length, sampler = self.layout.image_len, self._sampler(request)
        prompts, num_beside = self.prompts(pieces, self._beside(request))
        last = prompts.ids[: len(pieces), -1:]
        last = np.repeat(last, len(keys) // len(pieces), axis=0)
        forced = np.concatenate([last, forced], axis=1)
        prompts = _before_last(prompts)
        network = self._generator, self._code_params
        state = compiled_prefill(*network, prompts, keys, forced, guided=num_beside)
        settings = {"ids": self._code_ids, "sampler": sampler.numbers()}
        step = self.shape[1] if preview else length
        for stop_at in range(step, length + 1, step):
            state, tokens = compiled_advance(*network, state, stop_at + 1, **settings)
            yield np.asarray(tokens)[:, 1:], stop_at

    def _sample_row(
        self, request: Request, params: Any, prompt, key, forced, shared: Mapping
    ) -> jax.Array:
        forced = jnp.concatenate([prompt.ids[:1, -1:], forced], axis=1)
        own = _before_last(prompt), key, forced, shared
        return super()._sample_row(request, params, *own)[:, 1:]


def _before_last(prompts: Prompts) -> Prompts:
    """The prompts without their last tokens."""
    return Prompts(
        prompts.ids[:, :-1],
        prompts.num_padding,
        prompts.positions[:, :-1],
        prompts.next_position - 1,
    )


def of_shift(
    model: Model, weights: WeightFormat = "float32"
) -> DecoderPipeline | ShiftedDecoder:
    """The pipeline of a model whose layout says whether its codes are shifted."""
    shifted = model.layout is not None and model.layout.shifted
    return (ShiftedDecoder if shifted else DecoderPipeline)(model, weights=weights)


def of_layout(
    model: Model, weights: WeightFormat = "float32"
) -> DecoderPipeline | CaptionDecoder:
    """The pipeline of a model whose layout says whether texts are vectors."""
    captions = model.layout is not None and model.layout.vocab.captions
    return (CaptionDecoder if captions else DecoderPipeline)(model, weights=weights)
