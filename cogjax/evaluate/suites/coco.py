"""`--suite coco`: captions of photographs, with the published papers' metrics.

One image a caption (best of N by caption loss), beside the photograph of the caption:
CapLoss, R-precision by CapLoss, and with feature networks all of `feature_metrics.py`,
such as FID-k (DALL-E's and CogView's Table 1) and CLIP scores. The reference of FID is
the photographs of the sampled captions: as many as there are images, cropped to the
middle square.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cogjax.errors import UserError
from cogjax.evaluate.metrics.alignment import mean_caption_loss, r_precision
from cogjax.evaluate.metrics.blur import BLUR_RULES
from cogjax.evaluate.metrics.result import MetricValue, Source
from cogjax.evaluate.report.coco import coco_page
from cogjax.evaluate.report.html import Markup
from cogjax.evaluate.suites.cache import CachedModel
from cogjax.evaluate.suites.feature_metrics import (
    ClipExtractor,
    Counted,
    Extractor,
    Sides,
    clip_metrics,
    distances,
)
from cogjax.evaluate.suites.run import Progress, generate_codes, score_captions
from cogjax.worlds.coco import Captioned

_BATCH = 64


@dataclass(frozen=True)
class CocoSuite:
    """Settings of the suite.

    captions: from `worlds.coco.sample_captions`, with the name of their file.
    best_of: candidates a caption, of which the lowest caption loss stays; 0 or 1: one.
    distractors: other captions that R-precision sets against each image's own; 0 is
    off. guidance, temperature: None is the model's own. blur: mode and rule of FID-k.
    extractor: network of FID and its kin. clip: of CLIP scores and CMMD.
    """

    captions: Sequence[Captioned]
    file: str
    seed: int = 0
    best_of: int = 0
    guidance: float | None = None
    temperature: float | None = None
    distractors: int = 9
    blur: tuple[str, str] = ("both", "pil")
    extractor: Extractor | None = None
    clip: ClipExtractor | None = None
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
        # As evaluations were begun that had no choice of the rule and no CLIP.
        blur = self.blur[0] if self.blur[1] == BLUR_RULES[0] else ", ".join(self.blur)
        return {"n": len(self.captions), **{n: getattr(self, n) for n in names}} | {
            "blur_mode": blur,
            "extractor": self.extractor.id if self.extractor else None,
            "clip": self.clip.id if self.clip else None,
            "prompts_digest": hashlib.sha256(lines.encode()).hexdigest(),
            "reference": "photographs of the sampled captions, middle square",
        }

    def run(
        self, model: CachedModel, progress: Progress
    ) -> tuple[dict[str, Any], list[Markup]]:
        """As `run.Suite`."""
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
        losses = score_captions(model, texts, codes, progress=progress)
        rows, best = np.arange(len(codes)), losses.argmin(1)
        codes, losses = codes[rows, best], losses[rows, best]
        real = self._real_losses(model, texts, progress)
        source = Source(f"{self.model_name}, its own captioning", "none")
        metrics = {
            "generated": [mean_caption_loss(losses, source)],
            "photographs": [mean_caption_loss(real, source)],
        }
        if self.distractors:
            metrics["generated"] += [
                self._r_precision(model, codes, texts, source, progress)
            ]
        for name, values in self._by_features(model, codes, texts, progress).items():
            metrics[name] += values
        report = {
            name: [metric.as_dict() for metric in each]
            for name, each in metrics.items()
        }
        pairs = [
            {"caption": c.caption, "file": c.path.name, "caption_loss": float(loss)}
            for c, loss in zip(self.captions, losses, strict=True)
        ]
        report["images"] = pairs

        def beside(index: int) -> tuple[np.ndarray, np.ndarray]:
            generated = model.decode(codes[index][None])[0]
            return generated, self.captions[index].pixels(model.image_size)

        return report, coco_page(report, beside, self.seed)

    def _by_features(self, model, codes, texts, progress: Progress):
        """{"generated", "photographs": metrics} by the networks that there are."""
        photographs = _Photographs(self.captions, model.image_size)
        count, found = len(codes), {}
        sides = {"generated": _Decoded(model, codes), "photographs": photographs}
        if self.clip:
            captions, counted = (
                dict.fromkeys(sides, texts),
                Counted(2 * count, progress),
            )
            found = clip_metrics(sides, captions, self.clip, self.distractors, counted)
        if self.extractor:
            both = Sides(*sides.values(), (count, count))
            own = distances(both, self.extractor, self.blur, progress)
            found["generated"] = own + found.get("generated", [])
        return found

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

    def _r_precision(self, model, codes, texts, source, progress) -> MetricValue:
        """How often an image gives its own caption the lowest loss."""
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
    """Batches of images uint8 [b, y, x, 3] of codes [n, grid, grid]."""

    model: Any
    codes: np.ndarray

    def __iter__(self) -> Iterator[np.ndarray]:
        for start in range(0, len(self.codes), _BATCH):
            yield self.model.decode(self.codes[start : start + _BATCH])
