"""A trained model as one object: generate, caption, ask, score, encode, decode.

`TokensPipeline` does all of these, `TokensGenerator` neither reads nor scores.

    model = cogjax.load("emoji")
    model.generate("a red apple, 3D", num_images=4, seed=0).images[0].show()

Codes are sampled one after the other: prefill, then advance. The rest of generating is
in `tokens_generator.py`.
"""

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from cogjax.errors import UserError
from cogjax.pipelines.attention import Attentive, AttentiveReader
from cogjax.pipelines.contracts import RowProgram
from cogjax.pipelines.image_scores import CodeLosses
from cogjax.pipelines.reader import TokensReader
from cogjax.pipelines.request import MASKED_SETTINGS, Request
from cogjax.pipelines.tokenize import reconstruct
from cogjax.pipelines.tokens_generator import TokensGenerator, numbers_of
from cogjax.sampling.tokens.autoregressive import (
    DecodeState,
    advance,
    compiled_advance,
    compiled_prefill,
)
from cogjax.sampling.tokens.speculative import compiled_speculate

# Fillings of a hole, unless told otherwise; and where the numbers of their keys begin,
# behind those of an image's codes.
FILLINGS, _FIRST = 8, 2**30


class CodeByCode(TokensGenerator, CodeLosses, Attentive):
    """A model that generates images, one code after the other."""

    _read_prompts = staticmethod(compiled_prefill)

    def settings(self, request: Request) -> dict[str, Any]:
        """What a request amounts to with the model's own defaults, JSON-able."""
        own = {"speculate": request.speculate, "decode": self.decoding(request.decode)}
        own |= {"fillings": self._tries(request)} if request.has_hole else {}
        return super().settings(request) | own

    def reconstruct(self, codes: np.ndarray, texts: str | Sequence[str]) -> np.ndarray:
        """`decode` from the states that predict the codes of a text each, "" for none.

        UserError for a model without a reconstructor.
        """
        self.decoding("hidden")
        codes = self.check_codes(codes)
        texts = self.one_for_each(codes, texts)
        encode = self.model.text.encode
        return self._reconstruct(codes, [encode(text) for text in texts])

    def decoding(self, decode: str | None = None) -> str:
        """What images are made from, "codes" or "hidden" states; None: as trained.

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

    def _check(self, request: Request, preview, rerank_by) -> None:
        """UserError for what this model cannot do."""
        super()._check(request, preview, rerank_by)
        self.decoding(request.decode)
        most = self.layout.image_len
        for name in MASKED_SETTINGS:
            if getattr(request, name) is not None:
                raise UserError(
                    f"{name} is for a masked model, and this one samples code by code: "
                    "leave it out"
                )
        if request.speculate > most:
            raise UserError(
                f"speculate is {request.speculate}, expected 0 or 2 to {most}"
            )
        if request.speculate and preview is not None:
            raise UserError("speculate has no preview: rows are not finished in turn")

    def _sample(
        self, pieces, keys, forced, request: Request, preview: bool
    ) -> Iterator[tuple[np.ndarray, int]]:
        """With a preview after every row, which is given while the next is sampled."""
        state = self._prefill(pieces, keys, forced, request)
        network, length = (self._generator, self._code_params), self.layout.image_len
        settings = {"ids": self._code_ids, "sampler": self._sampler(request).numbers()}
        if request.speculate:
            window = request.speculate
            tokens, _ = compiled_speculate(
                *network, state, keys, window=window, **settings
            )
            yield np.asarray(tokens), length
            return
        step = self.shape[1] if preview else length
        state, tokens = compiled_advance(*network, state, step, **settings)
        for stop_at in range(2 * step, length + 1, step):
            state, ahead = compiled_advance(*network, state, stop_at, **settings)
            yield np.asarray(tokens), stop_at - step
            tokens = ahead
        yield np.asarray(tokens), length

    def _sample_row(
        self, request: Request, params: Any, prompt, key, forced, shared: Mapping
    ) -> Array:
        del request
        network, sampler = (self._generator, params), numbers_of(shared)
        guided = int(sampler.guidance is not None)
        state = self._read_prompts(*network, prompt, key, forced, guided=guided)
        settings = {"ids": self._code_ids, "sampler": sampler}
        return advance(*network, state, forced.shape[1], **settings).tokens

    def _draw(
        self, pieces, keys, forced, request: Request, progress, preview
    ) -> np.ndarray:
        """The filling of each image, of some, after which kept codes are likeliest.

        What a code is sampled by is before it: only the choice knows what is behind.
        """
        tries, kept = self._tries(request), forced >= 0
        behind = kept & (np.cumsum(~kept, axis=2) > 0)
        if tries == 1 or not behind.any():
            return super()._draw(pieces, keys, forced, request, progress, preview)
        many = _keys_of_fillings(keys, tries)

        def look(pairs, codes):
            preview([(prompt, i // tries) for prompt, i in pairs], codes)

        codes = super()._draw(
            pieces,
            many,
            np.repeat(forced, tries, axis=1),
            request,
            progress,
            look if preview else None,
        )
        losses = losses_of_candidates(
            self._code_losses, pieces, codes, progress, "comparing fillings"
        )
        losses = losses.reshape(*behind.shape[:2], tries, -1)
        best = np.sum(losses * behind[:, :, None], axis=3).argmin(axis=2)  # [p, n]
        codes = codes.reshape(*best.shape, tries, *codes.shape[2:])
        return np.take_along_axis(codes, best[..., None, None, None], axis=2)[:, :, 0]

    def _tries(self, request: Request) -> int:
        """Fillings of each image's hole: 1 for a grid of codes, or if all are alike."""
        if self._sampler(request).temperature == 0:
            return 1
        if request.fillings is not None:
            return request.fillings
        return FILLINGS if request.has_hole and request.keep is None else 1

    def _prefill(self, pieces, keys, forced, request: Request) -> DecodeState:
        """Reads the prompts of b images, b / q for each of q prompts."""
        prompts, num_beside = self.prompts(pieces, self._beside(request))
        return self._read_prompts(
            self._generator,
            self._code_params,
            prompts,
            keys,
            forced,
            guided=num_beside,
            window=max(request.speculate, 1),
        )

    def _pixels(self, codes: np.ndarray, pieces, request: Request) -> np.ndarray:
        if self.decoding(request.decode) == "codes":
            return super()._pixels(codes, pieces, request)
        lead, flat = codes.shape[:2], codes.reshape(-1, *self.shape)
        texts = [text for text in pieces for _ in range(lead[1])]
        pixels = self._reconstruct(flat, texts)
        return pixels.reshape(*lead, *pixels.shape[1:])

    def _reconstruct(self, codes: np.ndarray, pieces) -> np.ndarray:
        network = self.model["reconstructor"], self._generator, self._params
        prompts = self.layout.prompts(pieces)
        return reconstruct(*network, prompts, codes, self.batch_size)


class TokensPipeline(CodeByCode, TokensReader, AttentiveReader):
    """A model that generates, reads and scores images with the same weights."""

    def _row_programs(self, request: Request) -> dict[str, RowProgram]:
        """As of `TokensGenerator`, and `score`."""
        found = super()._row_programs(request)
        codes = found["generate"].outputs["codes"]
        return found | {"score": self.score_program(codes, request.texts[0])}

    def _scores(
        self, request: Request, pieces, codes: np.ndarray, rerank_by, progress
    ) -> np.ndarray:
        """By caption loss, if there is no other way."""
        if rerank_by is not None:
            return super()._scores(request, pieces, codes, rerank_by, progress)
        return losses_of_candidates(self._caption_losses, pieces, codes, progress)


def losses_of_candidates(
    losses, pieces, codes: np.ndarray, progress, what: str = "reranking"
) -> np.ndarray:
    """Losses [p, count, ...] of candidates [p, count, rows, columns] of p texts.

    losses: gives those of codes [n, image_len] and as many texts. what: for `progress`.
    """
    shape, total = codes.shape[:2], codes.shape[0] * codes.shape[1]
    progress(0, total, what)
    texts = [text for text in pieces for _ in range(shape[1])]
    scores = losses(codes.reshape(total, -1), texts)
    progress(total, total, what)
    return scores.reshape(*shape, *scores.shape[1:])


@functools.partial(jax.jit, static_argnums=1)
def _keys_of_fillings(keys: jax.Array, tries: int) -> jax.Array:
    """Keys [n] of images -> [n tries], the first filling of each by the image's own."""

    def of_image(key):
        others = jax.vmap(jax.random.fold_in, (None, 0))(
            key, _FIRST + jnp.arange(tries)
        )
        return others.at[0].set(key)

    return jax.vmap(of_image)(keys).reshape(-1)
