"""What a request in JSON asks of which model, checked before it waits.

A request names no file: an image is its data, a model one of those that are served.
"""

import base64
import binascii
import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from cogjax.data.images import ALPHA, decode_image
from cogjax.errors import UserError, did_you_mean, shown
from cogjax.pipelines.checks import check_text
from cogjax.pipelines.editing import TRANSPARENT
from cogjax.pipelines.reader import Search
from cogjax.pipelines.request import Request
from cogjax.serve.abilities import Shelf
from cogjax.serve.draw import Draw
from cogjax.serve.job import Job, Limits, Outcome

MAX_PIXELS = 1 << 22  # of a given image: as many wait in memory as requests
_MAX_TEXTS = 16
_SEARCH = ("temperature", "seed", "beams", "length_penalty")
# Settings of the tasks that read an image.
_READING = {"caption": (*_SEARCH, "rerank", "language"), "ask": _SEARCH, "score": ()}


@dataclass(frozen=True)
class Read:
    """A caption of an image, an answer about it, or how well texts fit it."""

    model: Any
    task: str
    image: Image.Image
    texts: tuple[str, ...]
    settings: Mapping[str, Any]

    def __call__(self, job: Job) -> Outcome:
        job.go_on()
        model, images = self.model, [self.image]
        if self.task == "caption":
            [caption] = model.caption(images, **self.settings)
            return Outcome({"caption": caption})
        unseen = {"unseen": model.unseen(self.texts)}
        if self.task == "ask":
            [answer] = model.ask(images, self.texts[0], **self.settings)
            return Outcome({"answer": answer, **unseen})
        found = model.score(images * len(self.texts), list(self.texts))
        pairs = sorted(zip(map(float, found), self.texts, strict=True))
        scores = [{"text": text, "score": score} for score, text in pairs]
        return Outcome({"scores": scores, **unseen})


def work_of(body: Any, shelf: Shelf, limits: Limits) -> Draw | Read:
    """What a request's JSON value asks for; UserError for anything amiss."""
    if not isinstance(body, dict):
        raise UserError(f"the request is {shown(body)}, expected an object")
    fields = dict(body)
    task = fields.pop("task", "generate")
    if task != "generate" and task not in list(_READING):
        raise UserError(f"task is {shown(task)}, not generate, caption, ask or score")
    name = fields.pop("model", next(iter(shelf.models)))
    model = shelf.model(name, task)
    if task != "generate":
        return _read(model, task, fields)
    work = Draw(shelf, name, *_request(fields, shelf))
    work.check(limits)
    return work


def _read(model: Any, task: str, fields: dict[str, Any]) -> Read:
    if "image" not in fields:
        raise UserError("there is no image: give its data in base64")
    image = _image("image", _decoded("image", fields.pop("image")))
    texts = _texts(task, fields)
    for key in fields:
        if key not in _READING[task]:
            hint = did_you_mean(key, _READING[task])
            raise UserError(f"{task} has no setting {shown(key)}{hint}")
    language = fields.get("language")
    if language not in (None, "en", "zh"):
        raise UserError(f"language is {shown(language)}, expected 'en' or 'zh'")
    Search(**{key: x for key, x in fields.items() if key != "language"})
    return Read(model, task, image, texts, fields)


def _texts(task: str, fields: dict[str, Any]) -> tuple[str, ...]:
    """Those of a task, taken out of its fields."""
    if task == "caption":
        return ()
    if task == "ask":
        return (check_text(fields.pop("question", ""), "the question"),)
    texts = fields.pop("texts", ())
    if not isinstance(texts, list) or not 1 <= len(texts) <= _MAX_TEXTS:
        raise UserError(f"texts is {shown(texts)}, expected 1 to {_MAX_TEXTS} texts")
    return tuple(check_text(each, f"text {i}") for i, each in enumerate(texts, 1))


def _request(
    fields: dict[str, Any], shelf: Shelf
) -> tuple[Request, dict[str, Any], str | None]:
    """The request of its fields, and `given` and `judge` as of `Draw`."""
    judge = fields.pop("rerank_by", None)
    if judge is not None:
        shelf.model(judge, "judge")
    given: dict[str, Any] = {}
    for key in ("image", "mask"):
        if fields.get(key) is not None:
            data = _decoded(key, fields[key])
            given[key] = hashlib.sha256(data).hexdigest()
            fields[key] = _image(key, data)
    if fields.get("keep") is not None:
        given["keep"] = fields["keep"]
        fields["keep"] = _keep(fields["keep"])
    return Request.of(fields.pop("prompts", ()), **fields), given, judge


def _decoded(name: str, data: Any) -> bytes:
    """A file's bytes from base64, or from a URL that holds it."""
    if not isinstance(data, str):
        raise UserError(f"{name} is {shown(data)}, expected its data in base64")
    head, comma, rest = data.partition(",")
    text = rest if comma and head.startswith("data:") else data
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise UserError(f"{name} is not base64, and no file is read by name") from None


def _image(name: str, data: bytes) -> Image.Image:
    """The image of a file; a mask is opaque."""
    notes: Counter = Counter()
    try:
        pixels = decode_image(data, notes=notes, most=MAX_PIXELS)
    except UserError as error:
        raise UserError(f"{name}: {error}") from error
    if name == "mask" and notes[ALPHA]:
        raise UserError(TRANSPARENT)
    return Image.fromarray(pixels)


def _keep(rows: Any) -> np.ndarray:
    try:
        return np.array(rows)
    except ValueError:
        raise UserError("keep has rows of several lengths") from None
