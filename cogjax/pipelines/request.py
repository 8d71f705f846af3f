"""What to generate: one checked request behind the command line and Python."""

import dataclasses
import numbers
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from cogjax.config import did_you_mean
from cogjax.data.images import as_image
from cogjax.errors import UserError
from cogjax.pipelines.checks import (
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
from cogjax.sampling.diffusion.settings import PER_STAGE
from cogjax.worlds.pairs import caption

SAMPLER_SETTINGS = ("temperature", "top_k", "top_p", "guidance")
# Settings of other models than those that sample code by code.
MASKED_SETTINGS = ("steps", "choice_temperature")
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
    the same whatever is generated beside it.
    temperature: 0, the likeliest code, to 100. top_k: 0 keeps all codes. top_p: above
    0, 1 keeps all. guidance: 0 to 100, 1 is off, above it the text is heeded more.
    None is the model's own.
    rerank: so many candidates are generated, and the `num_images` with the lowest
    score kept, best first; 0 is off.
    image, keep: where `keep`, bool [grid, grid], is True the codes of `image` stay, the
    others are generated: in-painting, and with the top rows CogView's image prompting.
    style: of a model of pairs (`pipelines/pairs.py`), which makes `image` the same in
    that style, words such as "line drawing": one or more, with one image or as many.
    The model reads the captions that ask for the styles, `texts`. A reranker reads the
    prompts, one or one for each style: what the new images show, "a cat, line drawing".
    Without rerank leave them out.
    strength: of a cascade, which then starts from `image` with noise: the noise's time,
    0.05, nearly the image, to 1, nearly noise alone. It goes with `keep` or without.
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
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    guidance: float | tuple[float, ...] | None = None
    rerank: int = 0
    image: Any = None
    keep: np.ndarray | None = None
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
        if self.style is None:
            self._check_image()
        if self.decode not in (None, "codes", "hidden"):
            raise UserError(f"decode is {self.decode!r}, expected 'codes' or 'hidden'")
        if self.method not in (None, *METHODS):
            raise UserError(f"method is {self.method!r}, not {', '.join(METHODS)}")

    def _check_numbers(self) -> None:
        for name, low, high in (
            ("num_images", 1, MAX_IMAGES),
            ("seed", 0, MAX_SEED),
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
        if self.keep is not None or self.strength is not None:
            raise UserError("style is for a whole image: leave keep and strength out")
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
        if (self.image is None) != (self.keep is None and self.strength is None):
            raise UserError(
                "image goes with keep, strength or style, and none goes alone: give "
                "both or neither"
            )
        if self.image is None:
            return
        _set(self, "image", as_image(self.image))
        if self.strength is not None:
            check_number("strength", self.strength, MIN_STRENGTH, 1)
        if self.keep is None:
            return
        keep = np.asarray(self.keep)
        if keep.dtype != bool or keep.ndim != 2 or keep.shape[0] != keep.shape[1]:
            raise UserError(
                f"keep is {keep.dtype} {list(keep.shape)}, expected bool [grid, grid]"
            )
        _set(self, "keep", keep)


def _texts(what: str, given: Any) -> tuple[str, ...]:
    """One or more prompts or styles, checked and stripped."""
    texts = (given,) if isinstance(given, str) else given
    if not isinstance(texts, Iterable):
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
