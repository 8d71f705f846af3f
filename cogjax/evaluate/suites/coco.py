"""`--suite coco`: captions of photographs, with the published papers' metrics.

One picture a caption (best of N by caption loss), beside the photograph of the caption:
CapLoss, R-precision by CapLoss, and with a feature network FID-k (DALL-E's and
CogView's Table 1) and the Inception Score. The reference of FID is the photographs of
the sampled captions: as many as there are pictures, cropped to the middle square.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from cogjax.errors import UserError
from cogjax.evaluate.metrics.alignment import mean_caption_loss, r_precision
from cogjax.evaluate.metrics.blur import RADII, blurred_fid
from cogjax.evaluate.metrics.inception_score import inception_score
from cogjax.evaluate.metrics.result import Figure, Source
from cogjax.evaluate.report.coco import coco_page
from cogjax.evaluate.report.html import Markup
from cogjax.evaluate.suites.cache import CachedModel
from cogjax.evaluate.suites.run import Progress, caption_losses, generate_codes
from cogjax.worlds.coco import Captioned

_BATCH = 64
# Pictures that the ten splits of DM-GAN's Inception Score need.
LEAST_FOR_SCORE = 10
# `TokensPipeline.score_codes` leaves out the end token's term.
_VARIANT = "without_end"


class Extractor(Protocol):
    """A feature network, as `features.make_extractor` makes it."""

    id: str
    resize: str

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """uint8 [n, y, x, 3] of any size -> features [n, d]."""

    def outputs(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Features, and logits [n, classes] or None."""

    def without_bias(self, logits: np.ndarray) -> np.ndarray:
        """Logits less the last layer's bias."""


def read_extractor(name: str, weights: str | os.PathLike | None) -> Extractor:
    """The feature network of that name, its weights from a file or a package."""
    from cogjax.evaluate.judges.features import make_extractor

    return make_extractor(name, weights=weights)


@dataclass(frozen=True)
class CocoSuite:
    """Settings of the suite.

    captions: of `data.coco.sample_captions`, from the file of that name, by the seed.
    best_of: candidates a caption, of which the lowest caption loss stays; 0 or 1: one.
    distractors: other captions that R-precision sets against each picture's own; 0 is
    off. guidance, temperature: None is the model's own.
    """

    captions: Sequence[Captioned]
    file: str
    seed: int = 0
    best_of: int = 0
    guidance: float | None = None
    temperature: float | None = None
    distractors: int = 9
    blur_mode: str = "both"
    extractor: Extractor | None = None
    model_name: str = "model"
    name = "coco"

    def check(self, model) -> None:
        """UserError for too few captions."""
        least = max(2, self.distractors + 1)
        if len(self.captions) < least:
            raise UserError(
                f"{len(self.captions)} captions are too few for {self.distractors} "
                f"distractors: {least} at least, raise --n or lower --distractors"
            )
        ((text, count),) = Counter(c.caption for c in self.captions).most_common(1)
        if len(self.captions) - count < self.distractors:
            raise UserError(
                f"{count} of {len(self.captions)} captions are {text[:60]!r}: too few "
                f"others for {self.distractors} distractors; lower --distractors"
            )

    def settings(self) -> dict[str, Any]:
        """The numbers, the extractor's id and a digest of captions and file names."""
        names = ("file", "seed", "best_of", "guidance", "temperature", "distractors")
        lines = "\n".join(f"{c.path.name}\t{c.caption}" for c in self.captions)
        extractor = self.extractor.id if self.extractor else None
        return {"n": len(self.captions), **{n: getattr(self, n) for n in names}} | {
            "blur_mode": self.blur_mode,
            "extractor": extractor,
            "prompts_digest": hashlib.sha256(lines.encode()).hexdigest(),
            "reference": "photographs of the sampled captions, middle square",
        }

    def run(
        self, model: CachedModel, progress: Progress
    ) -> tuple[dict[str, Any], list[Markup]]:
        """As `runner.Suite`."""
        texts = [captioned.caption for captioned in self.captions]
        codes = generate_codes(
            model,
            texts,
            max(self.best_of, 1),
            self.seed,
            progress=progress,
            guidance=self.guidance,
            temperature=self.temperature,
        )
        losses = caption_losses(model, texts, codes, progress=progress)
        rows, best = np.arange(len(codes)), losses.argmin(1)
        codes, losses = codes[rows, best], losses[rows, best]
        real = self._real_losses(model, texts, progress)
        source = Source(f"{self.model_name}, its own captioning", "none")
        figures = {
            "drawn": [mean_caption_loss(losses, source, _VARIANT)],
            "photographs": [mean_caption_loss(real, source, _VARIANT)],
        }
        if self.distractors:
            figures["drawn"] += [
                self._r_precision(model, codes, texts, source, progress)
            ]
        if self.extractor:
            figures["drawn"] += self._distances(model, codes, progress)
        report = {
            name: [figure.as_dict() for figure in each]
            for name, each in figures.items()
        }
        pairs = [
            {"caption": c.caption, "file": c.path.name, "caption_loss": float(loss)}
            for c, loss in zip(self.captions, losses, strict=True)
        ]
        report["pictures"] = pairs

        def beside(index: int) -> tuple[np.ndarray, np.ndarray]:
            drawn = model.decode(codes[index][None])[0]
            return drawn, self.captions[index].pixels(model.image_size)

        return report, coco_page(report, beside, self.seed)

    def _real_losses(self, model, texts, progress: Progress) -> np.ndarray:
        """Caption losses of the photographs, through the model's tokenizer."""
        losses, done = [], 0
        for images in _Photographs(self.captions, model.image_size):
            progress(done, len(texts), "photographs")
            chunk = texts[done : done + len(images)]
            losses.append(model.score_codes(model.encode(images), chunk))
            done += len(chunk)
        progress(done, len(texts), "photographs")
        return np.concatenate(losses)

    def _r_precision(self, model, codes, texts, source, progress) -> Figure:
        """Of each picture: does its own caption have the lowest loss?"""
        rng = np.random.default_rng([self.seed, 1])
        count, rivals = self.distractors, []
        # Numbers for texts: all are compared with all.
        _, words = np.unique(texts, return_inverse=True)
        for text, word in zip(texts, words, strict=True):
            picks = rng.choice(np.flatnonzero(words != word), count, replace=False)
            rivals.append([text, *(texts[i] for i in picks)])
        losses, step = [], max(1, _BATCH // (count + 1))
        for start in range(0, len(texts), step):
            progress(start, len(texts), "R-precision")
            chunk = rivals[start : start + step]
            repeated = np.repeat(codes[start : start + step], count + 1, 0)
            flat = [text for row in chunk for text in row]
            scored = model.score_codes(repeated, flat)
            losses.append(scored.reshape(len(chunk), count + 1))
        progress(len(texts), len(texts), "R-precision")
        scores, own = -np.concatenate(losses), np.zeros(len(texts), int)
        return r_precision(scores, own, source, distractors=count, seed=self.seed)

    def _distances(self, model, codes, progress: Progress) -> list[Figure]:
        """FID-k of the drawn pictures, and Inception Score if there are classes."""
        extract, source = self.extractor, self._source
        counted = _Counted(extract, 2 * len(RADII) * len(codes), progress)
        drawn = _Decoded(model, codes)
        photographs = _Photographs(self.captions, model.image_size)
        mode = self.blur_mode
        figures = blurred_fid(photographs, drawn, counted, source, mode=mode)
        logits = [extract.outputs(images)[1] for images in drawn]
        if logits[0] is not None and len(codes) >= LEAST_FOR_SCORE:
            bare = extract.without_bias(np.concatenate(logits))
            # Its classifier has been applied: what is left of it is the identity.
            width = bare.shape[1]
            identity = np.eye(width), np.zeros(width)
            figures.append(inception_score(bare, *identity, source, "dmgan"))
        progress(counted.total, counted.total, "features")
        return figures

    @property
    def _source(self) -> Source:
        """Of the extractor's features."""
        return Source(self.extractor.id, self.extractor.resize)


@dataclass(frozen=True)
class _Photographs:
    """Batches uint8 [b, size, size, 3], read anew each time they are gone through."""

    captions: Sequence[Captioned]
    size: int

    def __iter__(self) -> Iterator[np.ndarray]:
        for start in range(0, len(self.captions), _BATCH):
            chunk = self.captions[start : start + _BATCH]
            yield np.stack([captioned.pixels(self.size) for captioned in chunk])


@dataclass(frozen=True)
class _Decoded:
    """Batches of pictures uint8 [b, y, x, 3] of codes [n, grid, grid]."""

    model: Any
    codes: np.ndarray

    def __iter__(self) -> Iterator[np.ndarray]:
        for start in range(0, len(self.codes), _BATCH):
            yield self.model.decode(self.codes[start : start + _BATCH])


class _Counted:
    """An extractor that reports how many pictures it has been given."""

    def __init__(self, extract: Callable, total: int, progress: Progress):
        self.extract, self.total, self.progress, self.done = extract, total, progress, 0

    def __call__(self, images: np.ndarray) -> np.ndarray:
        self.progress(min(self.done, self.total), self.total, "features")
        self.done += len(images)
        return self.extract(images)
