"""What all models of codes do to generate, whatever samples their codes.

Generating reads top to bottom: check, tokenize, batches of prompts and images, sample
the codes, choose by score, decode.
"""

import abc
import dataclasses
import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np

from cogjax.data.aspects import Shape
from cogjax.data.images import fitted
from cogjax.data.sequences import Prompts
from cogjax.errors import UserError
from cogjax.pipelines.checks import NUM_IMAGES
from cogjax.pipelines.contracts import (
    Generation,
    Part,
    Preview,
    Progress,
    Reranker,
    RowProgram,
    Scorer,
)
from cogjax.pipelines.parts import in_parts
from cogjax.pipelines.request import (
    CASCADE_SETTINGS,
    SAMPLER_SETTINGS,
    Request,
)
from cogjax.pipelines.rerank import (
    check_keep,
    check_negative,
    check_reranker,
    choose,
    score_images,
)
from cogjax.pipelines.tokenize import padded_batches
from cogjax.pipelines.tokens_model import TokensModel
from cogjax.sampling.diffusion.settings import PER_STAGE
from cogjax.sampling.tokens.autoregressive import Sampler, SamplerNumbers, image_keys


class TokensGenerator(TokensModel, abc.ABC):
    """A `Generator` of images that are codes."""

    def generate(
        self,
        prompts: str | Sequence[str] | Request = (),
        num_images: int = NUM_IMAGES,
        seed: int = 0,
        *,
        progress: Progress | None = None,
        preview: Preview | None = None,
        rerank_by: Reranker | None = None,
        **settings,
    ) -> Generation:
        """Generates images of prompts.

        Args:
          prompts: one or more, or a whole `Request`; none beside `style`.
          num_images, seed, settings: fields of `Request`.
          progress: called with (done, total, what is done).
          preview: called when codes are finished (`contracts.Preview`).
          rerank_by: scores the `rerank` candidates, images and texts, lower is better,
            such as a CLIP's `score` (DALL-E section 2.6); None is the model's own
            caption loss (CogView section 3.4), of a model that has one.

        Raises:
          UserError: an empty prompt, a value out of range or an unknown setting.
        """
        request = Request.of(prompts, num_images=num_images, seed=seed, **settings)
        own = self._of_request(request)
        return own._generated(request, progress, preview, rerank_by)

    def _of_request(self, request: Request) -> Self:
        """The model of the shape that a request asks for; UserError for another."""
        return self.of(self.shape_for(request.aspect, request.drawn_size))

    def _generated(self, request: Request, progress, preview, rerank_by) -> Generation:
        """`generate` of images of this model's shape."""
        self._check(request, preview, rerank_by)
        pieces = self._pieces_of_prompts(request)
        progress = progress or (lambda done, total, label: None)
        return self._made(request, pieces, progress, preview, rerank_by)

    def generate_parts(
        self,
        request: Request,
        *,
        progress: Progress | None = None,
        rerank_by: Reranker | None = None,
    ) -> Iterator[Part]:
        """As of `PartByPart`."""
        own = self._of_request(request)
        own._check(request, None, rerank_by)
        pieces = own._pieces_of_prompts(request)

        def make(asked, numbers, say):
            return own._made(asked, [pieces[i] for i in numbers], say, None, rerank_by)

        return in_parts(request, self.batch_size, make, progress)

    def _pieces_of_prompts(self, request: Request) -> list[list[int]]:
        return [
            self.pieces(text, f"prompt {i}") for i, text in enumerate(request.texts, 1)
        ]

    def _made(
        self, request: Request, pieces, progress, preview, rerank_by
    ) -> Generation:
        """The images of a checked request, whose texts have these pieces."""
        codes = self._generate_codes(request, pieces, progress, preview)
        scores = None
        if request.rerank:
            scores = self._scores(request, pieces, codes, rerank_by, progress)
            scores, codes = choose(scores, request.num_images, codes)
        pixels = self._shown(codes, pieces, request)
        unread = tuple(map(self.unread, pieces))
        unseen = self.unseen(request.texts)
        return Generation(request.prompts, pixels, codes, scores, unread, unseen)

    def check(
        self,
        request: Request,
        *,
        preview: Preview | None = None,
        rerank_by: Reranker | None = None,
    ) -> None:
        """UserError for what this model cannot do."""
        self._of_request(request)._check(request, preview, rerank_by)

    def settings(self, request: Request) -> dict[str, Any]:
        """What a request amounts to with the model's own defaults, JSON-able."""
        settings = dataclasses.asdict(self._sampler(request)) | request.editing()
        names = ("num_images", "rerank")
        return settings | {name: getattr(request, name) for name in names}

    def row_programs(self, request: Request) -> dict[str, RowProgram]:
        """As of `Exportable`: `generate`, each row an image of a prompt of its own.

        forced: int32 [n, m], as of `_sample`. image: int32 [n], the image's number of
        the seed. Those numbers of the sampler that are used are shared.
        """
        return self._of_request(request)._row_programs(request)

    def _row_programs(self, request: Request) -> dict[str, RowProgram]:
        """`row_programs` of images of this model's shape."""
        count = request.num_images
        rows = self.prompt_rows([self.pieces(request.texts[0])] * count)
        keys = image_keys(request.seed, request.first, count)
        forced = self._forced(request, keys)[0]
        rows["forced"] = np.repeat(forced, count // len(forced), axis=0)
        rows["image"] = request.first + np.arange(count, dtype=np.int32)
        shared = {"seed": np.uint32(request.seed), **self._shared_numbers(request)}
        made = {"codes": self.generate(request).codes[0]}
        run = functools.partial(self._generate_row, request)
        made = RowProgram(run, "transformer", self._params, rows, shared, made)
        return {"generate": made}

    def _shared_numbers(self, request: Request) -> dict[str, np.ndarray]:
        """Numbers that `_sample_row` reads."""
        numbers = self._sampler(request).numbers()._asdict()
        return {name: x for name, x in numbers.items() if x is not None}

    def _generate_row(
        self, request: Request, weights: Any, row: Mapping, shared: Mapping
    ) -> dict[str, jax.Array]:
        params = self._scoring_codes(weights)
        prompt = self._prompt_of(params, row, "guidance" in shared)
        key = jax.random.fold_in(jax.random.key(shared["seed"]), row["image"])
        own = prompt, key[None], row["forced"][None]
        [tokens] = self._sample_row(request, params, *own, shared)
        # Those of a given image come first.
        rows, columns = self.shape
        return {"codes": tokens[-rows * columns :].reshape(rows, columns)}

    @abc.abstractmethod
    def _sample_row(
        self,
        request: Request,
        params: Any,
        prompt: Prompts,
        key: jax.Array,
        forced: jax.Array,
        shared: Mapping,
    ) -> jax.Array:
        """`_sample` of one image, in a program: int32 [1, m].

        params: with which codes are scored. prompt: one, with guidance two. key: [1].
        forced: [1, m]. shared: what `_shared_numbers` names.
        """

    def _check(self, request: Request, preview, rerank_by) -> None:
        """UserError for what this model cannot do."""
        del preview
        for name in CASCADE_SETTINGS:
            if getattr(request, name) is not None:
                raise UserError(
                    f"{name} is for a cascade of pixels, and this model has codes: "
                    "leave it out"
                )
        for name in PER_STAGE:
            if isinstance(getattr(request, name), tuple):
                raise UserError(
                    f"{name} has a value a stage, for a cascade of pixels, and this "
                    "model has codes: give one"
                )
        if request.style is not None and self.images == 1:
            raise UserError(
                "style is for a model of pairs, and this one draws what words say: "
                "leave it out"
            )
        check_reranker(rerank_by)
        if request.rerank and rerank_by is None and not isinstance(self, Scorer):
            raise UserError(
                "this model cannot score images, so it cannot choose among candidates: "
                "leave rerank out, or rerank by a CLIP"
            )
        if rerank_by is not None and not request.rerank:
            raise UserError("rerank_by chooses among candidates: set rerank, say 8")
        check_keep(request, self.shape, "codes")
        check_negative(request, self._sampler(request).guidance)

    @abc.abstractmethod
    def _sample(
        self, pieces, keys, forced, request: Request, preview: bool
    ) -> Iterator[tuple[np.ndarray, int]]:
        """(tokens int32 [b, m], how many are final) of b images, b / q of q prompts.

        pieces: of each prompt. keys: [b]. forced: int32 [b, m], -1 where a code is to
        be sampled. preview: whether someone looks before all are final.
        """

    def _generate_codes(
        self, request: Request, pieces: list[list[int]], progress, preview
    ) -> np.ndarray:
        """Codes int32 [p, count, rows, columns] of all candidates."""
        count = max(request.num_images, request.rerank)
        keys = image_keys(request.seed, request.first, count)
        forced = self._forced(request, keys)
        forced = np.broadcast_to(forced, (len(pieces), count, self.layout.image_len))
        return self._draw(pieces, keys, forced, request, progress, preview)

    def _draw(
        self, pieces, keys, forced, request: Request, progress, preview
    ) -> np.ndarray:
        """Codes int32 [p, n, rows, columns] of keys [n], -1 in forced [p, n, m]."""
        count = len(keys)
        codes = np.zeros((len(pieces), count, *self.shape), np.int32)
        done, total = 0, len(pieces) * count
        for which, images in self._batches(len(pieces), count):
            progress(done, total, "generating")
            pairs = [(int(p), int(i)) for p in which for i in images]  # b of them
            own_keys = _picked(keys, images, len(which))  # [b]
            own_forced = forced[np.ix_(which, images)].reshape(len(pairs), -1)
            own = [pieces[p] for p in which], own_keys, own_forced, request
            for tokens, count_done in self._sample(*own, preview is not None):
                if preview is not None:
                    preview(pairs, self._so_far(tokens, count_done))
            codes[np.ix_(which, images)] = tokens.reshape(
                len(which), len(images), *self.shape
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

    def _forced(self, request: Request, keys) -> np.ndarray:
        """Codes that are kept, -1 where one is to be sampled: int32 [1, 1 or n, m].

        keys: of n images.
        """
        if not request.has_hole:
            return np.full((1, 1, self.layout.image_len), -1, np.int32)
        image, keep = request.given(self.shape)
        [codes] = self.encode(fitted(image, self.size))
        if request.vary is not None:
            keep = _some(keys, request.vary, self.shape)
        forced = np.where(keep, codes, -1).astype(np.int32)
        return forced.reshape(1, -1, self.layout.image_len)

    def _beside(self, request: Request) -> Sequence[int] | None:
        """As of `prompts`: what images are guided away from, None without guidance."""
        if self._sampler(request).guidance == 1:
            return None
        return self.pieces(request.negative, "negative") if request.negative else ()

    def _sampler(self, request: Request) -> Sampler:
        given = {name: getattr(request, name) for name in SAMPLER_SETTINGS}
        given = {name: value for name, value in given.items() if value is not None}
        return dataclasses.replace(self.model.sampler, **given)

    def _so_far(self, tokens: np.ndarray, count: int) -> np.ndarray:
        """Codes [b, rows, columns] of which the first `count` are there, then -1."""
        codes = np.where(np.arange(tokens.shape[1]) < count, tokens, -1)
        return codes.reshape(-1, *self.shape)

    def _scores(
        self, request: Request, pieces, codes: np.ndarray, rerank_by, progress
    ) -> np.ndarray:
        """What candidates [p, count, rows, columns] are chosen by: [p, count]."""
        total = codes.shape[0] * codes.shape[1]
        progress(0, total, "reranking")
        pixels = self._shown(codes, pieces, request)
        scores = score_images(rerank_by, request.prompts, pixels)
        progress(total, total, "reranking")
        return scores

    def _shown(self, codes: np.ndarray, pieces, request: Request) -> np.ndarray:
        """As `_pixels`, under what is shown again of a given image."""
        return request.laid_over(self._pixels(codes, pieces, request))

    def _pixels(self, codes: np.ndarray, pieces, request: Request) -> np.ndarray:
        """Codes [p, n, rows, columns] -> pixels uint8 [p, n, y, x, 3]."""
        del pieces, request
        pixels = self.decode(codes.reshape(-1, *self.shape))
        return pixels.reshape(*codes.shape[:2], *pixels.shape[1:])


def numbers_of(shared: Mapping) -> SamplerNumbers:
    """Those of a program's inputs."""
    return SamplerNumbers(*(shared.get(name) for name in SamplerNumbers._fields))


@functools.partial(jax.jit, static_argnums=2)
def _picked(keys: jax.Array, images: jax.Array, times: int) -> jax.Array:
    """The keys of some images, so many times in a row."""
    return jnp.tile(keys[images], times)


def _some(keys: jax.Array, share: float, shape: Shape) -> np.ndarray:
    """Which codes stay of images [n], bool [n, rows, columns], if a share is sampled.

    An image owns them. Those of a smaller share are among those of a larger one.
    """
    total = math.prod(shape)
    order = np.argsort(_numbers(keys, total), axis=1, kind="stable")
    count = max(1, round(share * total))
    return (np.argsort(order, axis=1) >= count).reshape(-1, *shape)


@functools.partial(jax.jit, static_argnums=1)
def _numbers(keys: jax.Array, count: int) -> jax.Array:
    """Numbers [n, count] of keys [n], apart from those that codes are sampled by."""
    own = jax.vmap(jax.random.fold_in, (0, None))(keys, 2**31)
    return jax.vmap(lambda key: jax.random.uniform(key, (count,)))(own)
