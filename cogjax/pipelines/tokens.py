"""A trained model as one object: generate, caption, ask, score, encode, decode.

`TokensPipeline` does all of these, `TokensGenerator` neither reads nor scores.

    model = cogjax.load("emoji")
    model.generate("a red apple, 3D", num_images=4, seed=0).images[0].show()

Generating reads top to bottom: check, tokenize, batches of prompts and images, prefill,
sample the codes, choose by score, decode.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from cogjax.data.images import as_square
from cogjax.errors import UserError
from cogjax.pipelines.checks import NUM_IMAGES
from cogjax.pipelines.contracts import Generation, Preview, Progress, Reranker
from cogjax.pipelines.reader import TokensReader
from cogjax.pipelines.request import SAMPLER_SETTINGS, Request
from cogjax.pipelines.tokenize import padded_batches, reconstruct
from cogjax.pipelines.tokens_model import TokensModel
from cogjax.sampling.tokens.autoregressive import (
    DecodeState,
    Sampler,
    compiled_advance,
    compiled_prefill,
    image_keys,
)
from cogjax.sampling.tokens.speculative import compiled_speculate


class TokensGenerator(TokensModel):
    """A model that generates images."""

    def generate(
        self,
        prompts: str | Sequence[str] | Request,
        num_images: int = NUM_IMAGES,
        seed: int = 0,
        *,
        progress: Progress | None = None,
        preview: Preview | None = None,
        reranker: Reranker | None = None,
        **settings,
    ) -> Generation:
        """Generates images of prompts.

        Args:
          prompts: one or more, or a whole `Request`.
          num_images, seed, settings: fields of `Request`.
          progress: called with (done, total, what is done).
          preview: called for every finished row of codes (`contracts.Preview`).
          reranker: scores the `rerank` candidates, images and texts, lower is better;
            None is the caption loss of a model that reads (CogView section 3.4).

        Raises:
          UserError: an empty prompt, a value out of range or an unknown setting.
        """
        request = Request.of(prompts, num_images=num_images, seed=seed, **settings)
        self._check(request, preview, reranker)
        progress = progress or (lambda done, total, label: None)
        pieces = [self.pieces(prompt, "a prompt") for prompt in request.prompts]
        codes = self._generate_codes(request, pieces, progress, preview)
        scores = None
        if request.rerank:
            scores = self._scores(request, pieces, codes, reranker, progress)
            best = np.argsort(scores, axis=1, kind="stable")[:, : request.num_images]
            scores = np.take_along_axis(scores, best, axis=1)
            codes = np.take_along_axis(codes, best[..., None, None], axis=1)
        pixels = self._pixels(codes, pieces, request.decode)
        return Generation(request.prompts, pixels, codes, scores)

    def settings(self, request: Request) -> dict[str, Any]:
        """What a request amounts to with the model's own defaults, JSON-able."""
        names = ("num_images", "rerank", "speculate")
        settings = dataclasses.asdict(self._sampler(request))
        settings |= {name: getattr(request, name) for name in names}
        return settings | {"decode": self.decoding(request.decode)}

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

    def _check(self, request: Request, preview, reranker) -> None:
        """UserError for what this model cannot do."""
        self.decoding(request.decode)
        most, grid = self.layout.image_len, self.grid
        if request.speculate > most:
            raise UserError(
                f"speculate is {request.speculate}, expected 0 or 2 to {most}"
            )
        if request.speculate and preview is not None:
            raise UserError("speculate has no preview: rows are not finished in turn")
        if reranker is not None and not request.rerank:
            raise UserError("reranker chooses among candidates: set rerank, say 8")
        if request.rerank and reranker is None and not isinstance(self, TokensReader):
            raise UserError(
                "this model cannot score images, so it cannot choose among candidates: "
                "leave rerank at 0, or give a reranker"
            )
        if request.keep is not None and len(request.keep) != grid:
            raise UserError(
                f"keep is bool {list(request.keep.shape)}, this model's images have "
                f"[{grid}, {grid}] codes"
            )

    def _generate_codes(
        self, request: Request, pieces: list[list[int]], progress, preview
    ) -> np.ndarray:
        """Codes int32 [p, count, grid, grid] of all candidates."""
        count = max(request.num_images, request.rerank)
        codes = np.zeros((len(pieces), count, self.grid, self.grid), np.int32)
        keys, forced = image_keys(request.seed, 0, count), self._forced(request)
        done, total = 0, len(pieces) * count
        for which, images in self._batches(len(pieces), count):
            progress(done, total, "generating")
            pairs = [(int(p), int(i)) for p in which for i in images]  # b of them
            own_keys = jnp.tile(keys[images], len(which))  # [b]
            state = self._prefill([pieces[p] for p in which], own_keys, forced, request)
            for tokens, count_done in self._sample(state, own_keys, request, preview):
                if preview is not None:
                    preview(pairs, self._so_far(tokens, count_done))
            codes[np.ix_(which, images)] = tokens.reshape(
                len(which), len(images), self.grid, self.grid
            )
            done = min(total, done + len(pairs))
        progress(total, total, "generating")
        return codes

    def _batches(
        self, num_prompts: int, count: int
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(q prompts, g images of each) for each call, q g at most `batch_size`.

        All calls have one shape, so that they share a compiled program.
        """
        calls = -(-count // self.batch_size)
        num_images = -(-count // calls)
        at_once = max(1, self.batch_size // num_images)
        for prompts in padded_batches(np.arange(num_prompts), at_once):
            for images in padded_batches(np.arange(count), num_images):
                yield prompts, images

    def _forced(self, request: Request) -> np.ndarray:
        """Codes that are kept, -1 where one is to be sampled: int32 [image_len]."""
        if request.image is None:
            return np.full(self.layout.image_len, -1, np.int32)
        [codes] = self.encode(as_square(request.image, self.image_size))
        return np.where(request.keep, codes, -1).reshape(-1).astype(np.int32)

    def _sampler(self, request: Request) -> Sampler:
        given = {name: getattr(request, name) for name in SAMPLER_SETTINGS}
        given = {name: value for name, value in given.items() if value is not None}
        return dataclasses.replace(self.model.sampler, **given)

    def _prefill(self, pieces, keys, forced, request: Request) -> DecodeState:
        """Reads the prompts of b images, b / q for each of q prompts."""
        guided = self._sampler(request).guidance != 1
        return compiled_prefill(
            self._generator,
            self._code_params,
            self.layout.prompts([*pieces, ()] if guided else pieces),
            keys,
            np.tile(forced, (len(keys), 1)),
            guided=guided,
            window=max(request.speculate, 1),
        )

    def _sample(
        self, state: DecodeState, keys, request: Request, preview
    ) -> Iterator[tuple[np.ndarray, int]]:
        """(tokens int32 [b, m], how many are final): with a preview after every row.

        A row is given while the next one is sampled.
        """
        network, length = (self._generator, self._code_params), self.layout.image_len
        settings = {"ids": self._code_ids, "sampler": self._sampler(request).numbers()}
        if request.speculate:
            window = request.speculate
            tokens, _ = compiled_speculate(
                *network, state, keys, window=window, **settings
            )
            yield np.asarray(tokens), length
            return
        step = length if preview is None else self.grid
        state, tokens = compiled_advance(*network, state, step, **settings)
        for stop_at in range(2 * step, length + 1, step):
            state, ahead = compiled_advance(*network, state, stop_at, **settings)
            yield np.asarray(tokens), stop_at - step
            tokens = ahead
        yield np.asarray(tokens), length

    def _so_far(self, tokens: np.ndarray, count: int) -> np.ndarray:
        """Codes [b, grid, grid] of which the first `count` are there, then -1."""
        codes = np.where(np.arange(tokens.shape[1]) < count, tokens, -1)
        return codes.reshape(-1, self.grid, self.grid)

    def _scores(
        self, request: Request, pieces, codes: np.ndarray, reranker, progress
    ) -> np.ndarray:
        """What candidates [p, count, grid, grid] are chosen by: [p, count]."""
        shape, total = codes.shape[:2], codes.shape[0] * codes.shape[1]
        progress(0, total, "reranking")
        if reranker is None:
            flat = codes.reshape(total, -1)
            texts = [text for text in pieces for _ in range(shape[1])]
            scores = self._caption_losses(flat, texts)
        else:
            pixels = self._pixels(codes, pieces, request.decode)
            texts = [text for text in request.prompts for _ in range(shape[1])]
            scores = np.asarray(reranker(pixels.reshape(-1, *pixels.shape[2:]), texts))
        if scores.shape != (total,):
            raise UserError(
                f"the reranker gives {list(scores.shape)}, expected a score an image, "
                f"[{total}]"
            )
        progress(total, total, "reranking")
        return scores.reshape(shape)

    def _pixels(self, codes: np.ndarray, pieces, decode: str | None) -> np.ndarray:
        """Codes [p, n, grid, grid] -> pixels uint8 [p, n, y, x, 3]."""
        lead, flat = codes.shape[:2], codes.reshape(-1, self.grid, self.grid)
        if self.decoding(decode) == "codes":
            pixels = self.decode(flat)
        else:
            texts = [text for text in pieces for _ in range(lead[1])]
            pixels = self._reconstruct(flat, texts)
        return pixels.reshape(*lead, *pixels.shape[1:])

    def _reconstruct(self, codes: np.ndarray, pieces) -> np.ndarray:
        network = self.model["reconstructor"], self._generator, self._params
        prompts = self.layout.prompts(pieces)
        return reconstruct(*network, prompts, codes, self.batch_size)


class TokensPipeline(TokensGenerator, TokensReader):
    """A model that generates, reads and scores images with the same weights."""
