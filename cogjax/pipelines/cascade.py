"""A cascade of diffusion models: prompts to images in pixels (Imagen).

    model = cogjax.load("runs/base/export")
    model.generate("a red apple, 3D", guidance=3, steps=16).images[0].show()

The text is encoded once; each stage is one program, from noise to its images. Where
someone looks at estimates, it is a program of a few steps that is called again.
"""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from cogjax.data.images import as_image, as_square, stack_squares
from cogjax.errors import UserError
from cogjax.families.imagen.layout import Cascade
from cogjax.model import Model
from cogjax.nn.unet import Text
from cogjax.ops.image import signed
from cogjax.ops.packed import WeightFormat
from cogjax.pipelines import cascade_stage
from cogjax.pipelines.attention_found import Attention, of_places
from cogjax.pipelines.checks import (
    NUM_IMAGES,
    check_number,
    check_whole,
    say_unread,
)
from cogjax.pipelines.contracts import (
    Generation,
    Part,
    Preview,
    Progress,
    Reranker,
    RowProgram,
)
from cogjax.pipelines.held import HeldModel
from cogjax.pipelines.parts import in_parts
from cogjax.pipelines.request import Request
from cogjax.pipelines.rerank import (
    check_keep,
    check_negative,
    check_reranker,
    choose,
    score_images,
)
from cogjax.pipelines.text_encoder import text_encoder_of, vectors_of
from cogjax.pipelines.tokenize import padded_batches
from cogjax.sampling.diffusion.settings import PER_STAGE, CascadeSampler
from cogjax.sampling.tokens.autoregressive import image_keys

LOOK_EVERY = 4  # steps
# Called with uint8 [b, y, x, 3].
Look = Callable[[np.ndarray], None]
# Settings of models of codes.
_OTHERS = ("temperature", "top_k", "top_p", "choice_temperature", "speculate", "decode")
_OTHERS += ("style", "vary", "fillings", "aspect")


class CascadePipeline(HeldModel):
    """A `Generator` whose images are pixels.

    batch_size: most images in one call of a network; may be set at any time. grid:
    parts of an image's side that `keep` tells apart.
    """

    def __init__(
        self, model: Model, batch_size: int = 16, weights: WeightFormat = "float32"
    ):
        """weights: only "float32". UserError for parts that do not go together."""
        if weights != "float32":
            raise UserError(f"weights is {weights!r}, a cascade has only 'float32'")
        _check_parts(model)
        self.model, self.layout = model, model.layout
        self.batch_size = batch_size
        self._encoder = text_encoder_of(model)
        names = self.layout.components
        self._params = [jax.device_put(model[name].params) for name in names]
        self._configs = [model[name].config for name in names]
        # Folders of before there were settings of cascades hold those of codes.
        own = model.sampler
        self._own = own if isinstance(own, CascadeSampler) else CascadeSampler()
        self._own.stages(len(names))

    def shape_for(self, aspect: str | None, size: Any = None) -> tuple[int, int]:
        """(rows, columns) of the places that may be kept, of whatever image."""
        del aspect, size
        return self.grid, self.grid

    @property
    def image_size(self) -> int:
        """Pixels a side."""
        return self._configs[-1].image_size

    @property
    def grid(self) -> int:
        """Every pixel of the base's images may be kept."""
        return self._configs[0].image_size

    def generate(
        self,
        prompts: str | Sequence[str] | Request,
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
          prompts: one or more, or a whole `Request`.
          num_images, seed, settings: fields of `Request`.
          progress: called with (done, total, what is done).
          preview: called with estimates (`contracts.Preview`).
          rerank_by: scores the `rerank` candidates, such as a CLIP's `score`; a cascade
            reads no images itself.

        Raises:
          UserError: an empty prompt, a value out of range or an unknown setting.
        """
        request = Request.of(prompts, num_images=num_images, seed=seed, **settings)
        self.check(request, rerank_by=rerank_by)
        unread = self._all_unread(request)
        progress = progress or (lambda done, total, label: None)
        return self._made(request, unread, progress, preview, rerank_by)

    def generate_parts(
        self,
        request: Request,
        *,
        progress: Progress | None = None,
        rerank_by: Reranker | None = None,
    ) -> Iterator[Part]:
        """As of `PartByPart`."""
        self.check(request, rerank_by=rerank_by)
        unread = self._all_unread(request)

        def make(asked, numbers, say):
            own = tuple(unread[i] for i in numbers)
            return self._made(asked, own, say, None, rerank_by)

        return in_parts(request, self.batch_size, make, progress)

    def _made(
        self, request: Request, unread, progress, preview, rerank_by
    ) -> Generation:
        """The images of a checked request, the ends of whose prompts are unread."""
        negative = (request.negative,) if request.negative else ()
        text = self._texts([*request.prompts, *negative])
        pixels = self._draw_all(text, request, progress, preview)
        scores = None
        if request.rerank:
            scores = score_images(rerank_by, request.prompts, pixels)
            scores, pixels = choose(scores, request.num_images, pixels)
        unseen = self.unseen(request.prompts)
        return Generation(request.prompts, pixels, None, scores, unread, unseen)

    def enlarge(
        self, images: Any, texts: str | Sequence[str], *, seed: int = 0
    ) -> np.ndarray:
        """Images by the last stage alone, which enlarges them: uint8 [n, y, x, 3].

        images: as of `Reader.score`, n of any size, made squares of what the stage
        reads. texts: what each shows, or all. seed: image i of a seed has noise of its
        own. UserError for an empty text, another number, and a cascade of a base alone.
        """
        last = len(self._configs) - 1
        if not last:
            raise UserError("this model is a base alone, and enlarges no images")
        small = stack_squares(images, self._configs[last].small_size)
        texts = (texts,) * len(small) if isinstance(texts, str) else tuple(texts)
        if len(texts) != len(small):
            raise UserError(f"{len(small)} images but {len(texts)} texts")
        request = Request(texts)
        sampler, text = self._samplers(request)[last], self._texts(request.prompts)
        keys, done = _stage_keys(image_keys(seed, 0, len(small)), last), []
        for rows in padded_batches(np.arange(len(small)), self.batch_size):
            numbers = cascade_stage.Numbers.of(sampler, len(rows))
            inputs = _rows(text, rows), numbers, signed(small[rows])
            inputs = keys[rows], cascade_stage.Inputs(*inputs)
            stage = self._stage(last, sampler), self._params[last]
            done.append(np.asarray(_as_pixels(cascade_stage.draw(*stage, *inputs))))
        return np.concatenate(done)[: len(small)]

    def attention(
        self, image: Any, text: str, *, stage: int = 0, time: float = 0.5, seed: int = 0
    ) -> Attention:
        """How much of each piece of a text the places of an image take.

        image: as of `Reader.score`, one, to which noise of `seed` is added: so much as
        at a time of sampling, which goes from 1, noise alone, to 0. stage: of the
        cascade, 0 is the base. UserError for a stage that reads no text token by token.
        """
        check_whole("stage", stage, 0, len(self._configs) - 1)
        check_number("time", time, 0, 1)
        self._unread(text, "the text")
        own = self._stage(stage, self._samplers(Request((text,)))[stage])
        image, small = as_image(image), None
        if stage:
            size = self._configs[stage].small_size
            small = signed(stack_squares(image, size))
        pixels = signed(stack_squares(image, own.config.image_size))
        [key] = _stage_keys(image_keys(seed, 0, 1), stage)
        given = self._texts([text]), small
        args = self._params[stage], key, pixels, np.float32(time), given
        found = jax.device_get(cascade_stage.watch(own, *args))
        if not found:
            raise UserError(
                f"stage {stage} reads no text token by token, so it has no attention "
                "to one: choose another stage"
            )
        return of_places(image, found, self._encoder.names(text))

    def settings(self, request: Request) -> dict[str, Any]:
        """What a request amounts to with the model's own defaults, JSON-able."""
        stages, found = self._samplers(request), asdict(self._sampler(request))
        found |= {name: [getattr(x, name) for x in stages] for name in PER_STAGE}
        found |= request.editing()
        return {"num_images": request.num_images, "rerank": request.rerank, **found}

    def _sampler(self, request: Request) -> CascadeSampler:
        given = {f.name: getattr(request, f.name) for f in fields(CascadeSampler)}
        given = {name: value for name, value in given.items() if value is not None}
        return replace(self._own, **given)

    def _samplers(self, request: Request) -> list[CascadeSampler]:
        """Sampler of each stage; UserError for another number of values than of stages.

        A distilled stage has its own steps of DDIM, without guidance.
        """
        asked = self._sampler(request).stages(len(self._configs))
        steps = self.layout.distilled_steps
        return [
            replace(each, steps=count, guidance=1.0, method="ddim") if count else each
            for each, count in zip(asked, steps, strict=True)
        ]

    def check(
        self,
        request: Request,
        *,
        preview: Preview | None = None,
        rerank_by: Reranker | None = None,
    ) -> None:
        """UserError for what this model cannot do."""
        del preview
        for name in _OTHERS:
            if getattr(request, name) != getattr(Request, name):
                raise UserError(
                    f"{name} is for models of codes, and this one generates pixels: "
                    "leave it out"
                )
        self._samplers(request)
        _check_distilled(request, self.layout)
        if request.gamma is not None and self._sampler(request).method != "ddpm":
            raise UserError("gamma is of method ddpm: set that too, or leave it out")
        check_reranker(rerank_by)
        if (request.rerank > 0) != (rerank_by is not None):
            raise UserError(
                "a cascade reads no images: rerank goes with a CLIP, give both or "
                "neither"
            )
        check_keep(request, (self.grid, self.grid), "places")
        check_negative(request, *(x.guidance for x in self._samplers(request)))
        if request.negative:
            self._unread(request.negative, "negative")

    def _unread(self, prompt: str, what: str) -> str:
        """The end of a prompt that the text encoder does not read, with a Notice.

        UserError for a prompt of which it reads next to nothing.
        """
        if unknown := self._encoder.unknown(prompt):
            raise UserError(f"{what}, {unknown}")
        unread = self._encoder.unread(prompt)
        if unread:
            most = self._encoder.config.text_len
            say_unread(what, self._encoder.num_ids(prompt), most, unread)
        return unread

    def _all_unread(self, request: Request) -> tuple[str, ...]:
        return tuple(
            self._unread(prompt, f"prompt {i}")
            for i, prompt in enumerate(request.prompts, 1)
        )

    def _draw_all(
        self, text: Text, request: Request, progress: Progress, preview
    ) -> np.ndarray:
        """All candidates of p prompts, uint8 [p, count, y, x, 3].

        text: of the prompts, and behind them of `negative` if there is one.
        """
        count, size = max(request.num_images, request.rerank), self.image_size
        keys = image_keys(request.seed, request.first, count)
        pixels = np.zeros((len(request.prompts), count, size, size, 3), np.uint8)
        done, total = 0, len(request.prompts) * count
        progress(done, total, "generating")
        for pairs in self._batches(len(request.prompts), count):
            which, images = pairs.T
            own = _rows(text, which)
            unlike = _rows(text, np.full_like(which, -1)) if request.negative else None
            look = None
            if preview is not None:
                named = [(int(p), int(i)) for p, i in pairs]
                look = functools.partial(preview, named)
            numbers = [
                cascade_stage.Numbers.of(each, len(pairs))
                for each in self._samplers(request)
            ]
            own = _picked(keys, images), (own, unlike), numbers
            drawn = self._cascade(self._params, *own, request, look)
            pixels[which, images] = request.laid_over(np.asarray(drawn))
            done = min(total, done + len(pairs))
            progress(done, total, "generating")
        return pixels

    def _batches(self, num_prompts: int, count: int) -> Iterator[np.ndarray]:
        """(prompt, image) pairs int [k, 2] of each call, k always the same."""
        pairs = np.stack(np.divmod(np.arange(num_prompts * count), count), axis=1)
        return padded_batches(pairs, min(self.batch_size, len(pairs)))

    def _texts(self, prompts: Sequence[str]) -> Text:
        """On the host: the networks may be on other devices than the encoder."""
        found = self._encoder.encode(prompts)
        return Text(np.asarray(found.tokens, np.float32), np.asarray(found.mask))

    def _cascade(
        self,
        params: Sequence[Any],
        keys: Array,
        texts: tuple[Text, Text | None],
        numbers: Sequence[cascade_stage.Numbers],
        request: Request,
        look: Look | None,
    ) -> Array:
        """uint8 [b, y, x, 3] of keys [b], their (text, negative or None), and numbers.

        numbers: of each stage.
        """
        text, negative = texts
        small = None
        for i, sampler in enumerate(self._samplers(request)):
            stage = self._stage(i, sampler)
            given = self._given(request, stage.config.image_size, len(keys))
            inputs = cascade_stage.Inputs(text, numbers[i], small, negative, **given)
            own_keys = _stage_keys(keys, i)
            small = _run(stage, params[i], own_keys, inputs, look)
        return _as_pixels(small)

    def row_programs(self, request: Request) -> dict[str, RowProgram]:
        """As of `Exportable`: `generate`, of vectors of the text encoder's length.

        Numbers of the samplers that are used are shared, float32 [stages].
        """
        count, samplers = request.num_images, self._samplers(request)
        found = self._texts(request.prompts[:1])
        vectors = vectors_of(*found, self._encoder.config.text_len)
        pixels = self._draw_all(Text(**vectors), request, lambda *args: None, None)
        rows = {name: np.repeat(x, count, axis=0) for name, x in vectors.items()}
        rows["image"] = request.first + np.arange(count, dtype=np.int32)
        used = {
            "guidance": any(each.guidance != 1 for each in samplers),
            "percentile": any(each.percentile for each in samplers),
            "augmentation": len(samplers) > 1,
            "gamma": any(each.method == "ddpm" for each in samplers),
        }
        shared = {
            name: np.array([getattr(each, name) for each in samplers], np.float32)
            for name in used
            if used[name]
        }
        shared["seed"] = np.uint32(request.seed)
        run = functools.partial(self._generate_row, request)
        weights = dict(zip(self.layout.components, self._params, strict=True))
        part = "cascade", weights, rows, shared, {"images": pixels[0]}
        return {"generate": RowProgram(run, *part)}

    def _generate_row(
        self, request: Request, weights: Any, row: Mapping, shared: Mapping
    ) -> dict[str, Array]:
        key = jax.random.fold_in(jax.random.key(shared["seed"]), row["image"])
        text = Text(row["tokens"][None], row["mask"][None])
        numbers = []
        for i, sampler in enumerate(self._samplers(request)):
            own = cascade_stage.Numbers.of(sampler, 1)._asdict()
            given = {
                name: jnp.full_like(x, shared[name][i])
                for name, x in own.items()
                if name in shared
            }
            numbers.append(cascade_stage.Numbers(**own | given))
        params = [weights[name] for name in self.layout.components]
        [pixels] = self._cascade(
            params, key[None], (text, None), numbers, request, None
        )
        return {"images": pixels}

    def _stage(self, i: int, sampler: CascadeSampler) -> cascade_stage.StageProgram:
        layout = self.layout
        return cascade_stage.StageProgram(
            self._configs[i],
            layout.predictions[i],
            layout.schedules[i],
            layout.augmentations[i - 1] if i else "",
            sampler.steps,
            sampler.method,
            guided=sampler.guidance != 1,
            dynamic=sampler.percentile > 0,
        )

    def _given(self, request: Request, size: int, count: int) -> dict[str, Array]:
        """What a request gives of an image, as fields of a stage's `Inputs`."""
        if request.image is None:
            return {}
        repeat = lambda x: np.broadcast_to(x, (count, *x.shape))  # noqa: E731
        image, keep = request.given((self.grid, self.grid))
        given = {"image": repeat(signed(as_square(image, size)))}
        if keep is not None:
            sides = np.arange(size) * self.grid // size
            given["keep"] = repeat(keep[np.ix_(sides, sides)][..., None])
        if request.strength is not None:
            given["strength"] = jnp.float32(request.strength)
        return given


def _check_distilled(request: Request, layout: Cascade) -> None:
    """UserError for settings that a distilled stage does not have."""
    names, all_steps = layout.components, layout.distilled_steps
    for i, (name, steps) in enumerate(zip(names, all_steps, strict=True)):
        own = {"steps": steps, "guidance": 1, "method": "ddim"} if steps else {}
        for key, value in own.items():
            given = getattr(request, key)
            asked = given[i] if isinstance(given, tuple | list) else given
            if asked not in (None, value):
                raise UserError(
                    f"{key} is {asked}, and {name} was distilled to {steps} steps of "
                    f"ddim with guidance inside: give it {value}, or leave {key} out"
                )


def _run(stage, params, keys: Array, inputs, look: Look | None) -> Array:
    """The images of a stage; `look` sees estimates of them on their way."""
    if look is None:
        return cascade_stage.draw(stage, params, keys, inputs)
    state = cascade_stage.begin(stage, keys, inputs)
    for done in range(0, stage.steps - 1, LOOK_EVERY):
        count = min(LOOK_EVERY, stage.steps - 1 - done)
        state = cascade_stage.go_on(stage, params, inputs, state, count)
        look(np.asarray(_as_pixels(state.estimate)))
    return cascade_stage.end(stage, params, inputs, state)


def _rows(text: Text, which: np.ndarray) -> Text:
    return Text(text.tokens[which], text.mask[which])


@jax.jit
def _picked(keys: Array, images: Array) -> Array:
    return keys[images]


_stage_keys = jax.jit(jax.vmap(jax.random.fold_in, (0, None)))


@jax.jit
def _as_pixels(images: Array) -> Array:
    return jnp.round(jnp.clip(images + 1, 0, 2) * 127.5).astype(jnp.uint8)


def _check_parts(model: Model) -> None:
    """UserError unless text encoder and stages fit one another, in order."""
    encoder, size = model["text_encoder"], 0
    for name in model.layout.components:
        config = model[name].config
        if config.text_dim != encoder.config.width:
            raise UserError(
                f"{name} expects text vectors of {config.text_dim}, and this text "
                f"encoder has {encoder.config.width}: put the one back that it was "
                "trained with"
            )
        small = getattr(config, "small_size", 0)
        if small != size:
            raise UserError(
                f"{name} enlarges images of {small} pixels, and the stage before it "
                f"makes {size}: put the stages in order"
            )
        size = config.image_size
