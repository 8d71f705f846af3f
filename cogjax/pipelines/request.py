"""What to generate: one checked request behind the command line and Python."""

import dataclasses
import functools
import numbers
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import numpy as np
from PIL import Image

from cogjax.data.aspects import Shape, aspect
from cogjax.data.images import as_image, upright_size
from cogjax.errors import UserError, did_you_mean
from cogjax.pipelines.checks import (
    MAX_FILLINGS,
    MAX_FIRST,
    MAX_GUIDANCE,
    MAX_IMAGES,
    MAX_PROMPTS,
    MAX_SEED,
    MAX_STEPS,
    MAX_TEMPERATURE,
    MAX_TOP_K,
    METHODS,
    MIN_STRENGTH,
    NUM_IMAGES,
    check_number,
    check_percentile,
    check_stages,
    check_text,
    check_whole,
)
from cogjax.pipelines.editing import SIDES, Canvas, check_extend, check_mask, extended
from cogjax.sampling.diffusion.settings import PER_STAGE
from cogjax.worlds.pairs import caption

SAMPLER_SETTINGS = ("temperature", "top_k", "top_p", "guidance")
# Settings of other models than those that sample code by code.
MASKED_SETTINGS = ("steps", "choice_temperature")
# What stays of an image, in four ways.
HOLES = ("keep", "mask", "extend", "vary")
CASCADE_SETTINGS = ("method", "gamma", "percentile", "augmentation", "strength")

_STAGE_CHECKS = {
    "steps": lambda name, value: check_whole(name, value, 1, MAX_STEPS),
    "guidance": lambda name, value: check_number(name, value, 0, MAX_GUIDANCE),
    "percentile": check_percentile,
}


@dataclass(frozen=True, eq=False)
class Request:
    """Images to generate. UserError for what no model could do.

    prompts: what the images show, in any language the model was trained on.
    num_images: of each prompt, 1 to 1,000. seed: 0 to 2**32 - 1; image i of a seed is
    the same whatever is generated beside it. first: number of the first image of the
    seed, 0 to 10**9: with 4 the images go on where 4 others end.
    temperature: 0, the likeliest code, to 100. top_k: 0 keeps all codes. top_p: above
    0, 1 keeps all. guidance: 0 to 100, 1 is off, above it the text is heeded more.
    None is the model's own.
    rerank: so many candidates are generated, and the `num_images` with the lowest
    score kept, best first; 0 is off.
    aspect: width and height such as "3:2", of a model of images of several shapes; None
    is the first of them, or the nearest to `image`.
    image, keep: where `keep`, bool [rows, columns], is True the codes of `image` stay,
    the others are generated: in-painting, and with the top rows CogView's image
    prompting.
    style: of a model of pairs (`pipelines/pairs.py`), which makes `image` the same in
    that style, words such as "line drawing": one or more, with one image or as many.
    The model reads the captions that ask for the styles, `texts`. A reranker reads the
    prompts, one or one for each style: what the new images show, "a cat, line drawing".
    Without rerank leave them out.
    mask: an image of the size of `image`, white (in an array bool [y, x]: True) where
    it is drawn anew. All codes that it touches are; outside of it the image itself is
    shown again, faded into what was drawn, unless `paste` is False: then the pixels are
    the model's own of all codes.
    extend: pixels of `image` by side, {"left": 16, "top": 8}, that are drawn anew;
    below 0 they are taken away. It is then shrunk into the model's shape
    (`editing.extended`).
    vary: share of the codes of `image` that are sampled anew, others for each image.
    fillings: of a model code by code, 1 to 64: so many fillings of each image's hole
    are sampled after what is before it, and the one stays after which the kept codes
    are likeliest; None is 8 for `mask`, `extend` and `vary`, and 1 for `keep`.
    negative: what the images are guided away from, instead of from no prompt.
    strength: of a cascade, which then starts from `image` with noise: the noise's time,
    0.05, nearly the image, to 1, nearly noise alone. It goes with a hole or without.
    speculate: so many codes are drafted a step (`sampling/tokens/speculative.py`):
    fewer steps, other images of the same distribution; 0 is off, otherwise 2 or more.
    steps: of a masked model (`sampling/tokens/masked.py`), 1 to an image's codes; None
    is 8, or as many as there are codes. Those of each stage of a cascade.
    method, gamma: of a cascade (`sampling/diffusion/samplers.py`). percentile: of its
    dynamic threshold, above 1 to 100; 0 clips. augmentation: time of the noise on the
    small image of a stage of super-resolution, 0 to 1. A cascade also takes steps,
    guidance and percentile as tuples, one value a stage, base first.
    choice_temperature: 0, the surest codes are unmasked first, to 100, by chance; None
    is 4.5.
    decode: from "codes", or from "hidden" states (`sampling/tokens/reconstruct.py`);
    None is what the model was trained for.
    """

    prompts: tuple[str, ...]
    num_images: int = NUM_IMAGES
    seed: int = 0
    first: int = 0
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    guidance: float | tuple[float, ...] | None = None
    rerank: int = 0
    image: Any = None
    keep: np.ndarray | None = None
    mask: Any = None
    extend: Mapping[str, int] | None = None
    vary: float | None = None
    paste: bool = True
    fillings: int | None = None
    negative: str | None = None
    strength: float | None = None
    speculate: int = 0
    steps: int | tuple[int, ...] | None = None
    choice_temperature: float | None = None
    method: str | None = None
    gamma: float | None = None
    percentile: float | tuple[float, ...] | None = None
    augmentation: float | None = None
    decode: Literal["codes", "hidden"] | None = None
    style: str | tuple[str, ...] | None = None
    aspect: str | None = None

    @classmethod
    def of(cls, prompts: Any, **settings) -> "Request":
        """A request of a prompt or prompts and the other fields, or the one given.

        UserError for a setting that is no field, with the name that was meant.
        """
        defaults = {field.name: field.default for field in dataclasses.fields(cls)[1:]}
        for name in settings.keys() - defaults.keys():
            hint = did_you_mean(name, list(defaults))
            raise UserError(f"generate has no setting {name!r}{hint}")
        if not isinstance(prompts, Request):
            return cls(prompts, **settings)
        beside = [name for name, x in settings.items() if x is not defaults[name]]
        if beside:
            raise UserError(
                f"{', '.join(beside)} beside a Request: set that in the Request"
            )
        return prompts

    def __post_init__(self):
        if self.style is not None:
            self._check_style()
        _set(self, "prompts", _texts("prompt", self.prompts))
        self._check_numbers()
        if self.aspect is not None:
            aspect(self.aspect)
        self._check_hole()
        if self.style is None:
            self._check_image()
        if self.decode not in (None, "codes", "hidden"):
            raise UserError(f"decode is {self.decode!r}, expected 'codes' or 'hidden'")
        if self.method not in (None, *METHODS):
            raise UserError(f"method is {self.method!r}, not {', '.join(METHODS)}")

    @property
    def has_hole(self) -> bool:
        """Whether a part of an image stays and the rest is drawn anew."""
        return any(getattr(self, name) is not None for name in HOLES)

    @property
    def drawn_size(self) -> Shape | None:
        """(height, width) of an image with a hole and what extends it, or None."""
        if not self.has_hole:
            return None
        width, height = upright_size(self.image)
        more = self.extend or {}
        left, top, right, bottom = (more.get(side, 0) for side in SIDES)
        return height + top + bottom, width + left + right

    def given(self, shape: Shape) -> tuple[Image.Image, np.ndarray | None]:
        """The image, and which of its parts stay, bool of a shape, if that is set."""
        canvas = self._canvas(shape)
        if canvas is None:
            return self.image, self.keep
        return canvas.image, canvas.keep(shape)

    def laid_over(self, pixels: np.ndarray) -> np.ndarray:
        """What is shown of pixels uint8 [..., y, x, 3] that were drawn."""
        canvas = self._canvas(pixels.shape[-3:-1]) if self.paste else None
        return canvas.laid_over(pixels) if canvas else pixels

    def _canvas(self, shape: Shape) -> Canvas | None:
        """The image and its hole in pixels, None without `mask` and `extend`."""
        if self.mask is not None:
            return Canvas(self.image, self.mask)
        if self.extend is None:
            return None
        found = self._extended.get(Fraction(*shape))
        if found is None:
            found = extended(self.image, self.extend, shape)
            self._extended[Fraction(*shape)] = found
        return found

    @functools.cached_property
    def _extended(self) -> dict[Fraction, Canvas]:
        """By the aspect of a shape, what was made once."""
        return {}

    def editing(self) -> dict[str, Any]:
        """What was set of `extend`, `vary`, `negative` and `aspect`, JSON-able."""
        names = ("extend", "vary", "negative", "aspect")
        found = {name: getattr(self, name) for name in names}
        found = {name: value for name, value in found.items() if value is not None}
        pasted = self.mask is not None or self.extend is not None
        return found | ({"paste": self.paste} if pasted else {})

    def _check_numbers(self) -> None:
        for name, low, high in (
            ("num_images", 1, MAX_IMAGES),
            ("seed", 0, MAX_SEED),
            ("first", 0, MAX_FIRST),
            ("rerank", 0, MAX_IMAGES),
            ("top_k", 0, MAX_TOP_K),
        ):
            value = getattr(self, name)
            if name != "top_k" or value is not None:
                _set(self, name, check_whole(name, value, low, high))
        for name, high in (
            ("temperature", MAX_TEMPERATURE),
            ("choice_temperature", MAX_TEMPERATURE),
            ("top_p", 1),
            ("gamma", 1),
            ("augmentation", 1),
        ):
            value = getattr(self, name)
            if value is not None:
                check_number(name, value, 0, high, open_low=name == "top_p")
        for name in PER_STAGE:
            value = getattr(self, name)
            if value is not None:
                _set(self, name, check_stages(name, value, _STAGE_CHECKS[name]))
        self._check_speculate()
        if 0 < self.rerank < self.num_images:
            raise UserError(
                f"rerank is {self.rerank}: it must be at least num_images, "
                f"{self.num_images}"
            )

    def _check_speculate(self) -> None:
        """The pipeline knows the number of codes."""
        size = self.speculate
        if size != 0 and not (isinstance(size, numbers.Integral) and size > 1):
            raise UserError(
                f"speculate is {size!r}, expected 0 or 2 to an image's codes"
            )

    @property
    def texts(self) -> tuple[str, ...]:
        """What the model reads for each prompt."""
        return tuple(map(caption, self.style)) if self.style else self.prompts

    def _check_style(self) -> None:
        """Makes the prompts; the pipeline knows the styles."""
        styles = _texts("style", self.style)
        captions = tuple(map(caption, styles))
        words = self._words_beside(captions)
        if self.image is None:
            raise UserError("style makes an image into another: give image too")
        if self.has_hole or self.strength is not None:
            raise UserError(
                f"style is for a whole image: leave {', '.join(HOLES)} and strength out"
            )
        images = self.image
        images = images if isinstance(images, tuple | list) else (images,)
        if len(images) not in (1, len(styles)):
            raise UserError(
                f"{len(images)} images and {len(styles)} styles: give one image, or "
                "one for each style"
            )
        _set(self, "image", tuple(map(as_image, images)))
        _set(self, "style", styles)
        _set(self, "prompts", words or captions)

    def _words_beside(self, captions: tuple[str, ...]) -> tuple[str, ...]:
        """The prompt of each style, which a reranker reads; () for none."""
        if self.prompts in ((), captions):
            if self.rerank:
                raise UserError(
                    "style does not say what an image shows, which rerank chooses by: "
                    'give a prompt too, such as "a cat, line drawing"'
                )
            return ()
        if not self.rerank:
            raise UserError(
                "style says what an image is made into, and words beside it are read "
                "by a reranker alone: leave the prompts out"
            )
        words = _texts("prompt", self.prompts)
        if len(words) not in (1, len(captions)):
            raise UserError(
                f"{len(words)} prompts and {len(captions)} styles: give one prompt, or "
                "one for each style"
            )
        return words * (len(captions) // len(words))

    def _check_image(self) -> None:
        if (self.image is None) == (self.has_hole or self.strength is not None):
            raise UserError(
                f"image goes with {', '.join(HOLES)}, strength or style, and none goes "
                "alone: give both or neither"
            )
        if self.image is None:
            return
        _set(self, "image", as_image(self.image))
        if self.strength is not None:
            check_number("strength", self.strength, MIN_STRENGTH, 1)
        if self.vary is not None:
            check_number("vary", self.vary, 0, 1, open_low=True)
        if self.mask is not None:
            _set(self, "mask", check_mask(self.mask, self.image))
        if self.extend is not None:
            _set(self, "extend", check_extend(self.extend, self.image))
        if self.keep is not None:
            self._check_keep()

    def _check_hole(self) -> None:
        """What goes with a hole, and only one kind of it."""
        given = [name for name in HOLES if getattr(self, name) is not None]
        if len(given) > 1:
            raise UserError(f"{' and '.join(given)} do not go together: give one")
        if self.fillings is not None:
            if not given:
                raise UserError(
                    f"fillings are of a hole in an image: give {', '.join(HOLES)}, or "
                    "leave it out"
                )
            whole = check_whole("fillings", self.fillings, 1, MAX_FILLINGS)
            _set(self, "fillings", whole)
        if not isinstance(self.paste, bool):
            raise UserError(f"paste is {self.paste!r}, expected True or False")
        if not self.paste and self.mask is None and self.extend is None:
            raise UserError(
                "paste is False without a mask or extend: give one, or leave it out"
            )
        if self.negative is not None:
            _set(self, "negative", check_text(self.negative, "negative"))

    def _check_keep(self) -> None:
        keep = np.asarray(self.keep)
        if keep.dtype != bool or keep.ndim != 2:
            raise UserError(
                f"keep is {keep.dtype} {list(keep.shape)}, expected bool [rows, "
                "columns]"
            )
        _set(self, "keep", keep)


def _texts(what: str, given: Any) -> tuple[str, ...]:
    """One or more prompts or styles, checked and stripped."""
    texts = (given,) if isinstance(given, str) else given
    if not isinstance(texts, Iterable) or isinstance(texts, Mapping):
        raise UserError(f"{what}s is {given!r}, expected a text or a list of texts")
    texts = tuple(texts)
    if not texts:
        raise UserError(f"there is no {what}: give at least one")
    if len(texts) > MAX_PROMPTS:
        raise UserError(f"{len(texts)} {what}s, at most {MAX_PROMPTS}")
    return tuple(check_text(text, f"{what} {i}") for i, text in enumerate(texts, 1))


def _set(request: Request, name: str, value: Any) -> None:
    """Sets a field of the frozen request while it is made."""
    object.__setattr__(request, name, value)
