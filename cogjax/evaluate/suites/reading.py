"""`--suite reading`: captions, answers and round trips on held-out images.

For each held-out split it reports captions in each language, chosen greedily, by beams,
reranked and sampled, beside captions of the grammar itself; and answers by kind of
question and language, beside those about another image. On shapes all are judged
exactly; other data sets have the metrics of words, and an answer must be the same
words.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cogjax.data.records import Example, decode_image, open_split, read_manifest
from cogjax.errors import UserError
from cogjax.evaluate.judges.compositional import make_prompts
from cogjax.evaluate.judges.reading import (
    Asked,
    answer_metrics,
    caption_metrics,
    share_of,
)
from cogjax.evaluate.judges.round_trip import SAMPLED, caption_choice, text_round_trip
from cogjax.evaluate.report.html import Markup
from cogjax.evaluate.report.reading import reading_page
from cogjax.evaluate.suites.cache import CachedModel
from cogjax.evaluate.suites.run import Progress, generate_codes, score_captions
from cogjax.evaluate.suites.shapes import LEAST_SIDE, judge_codes
from cogjax.pipelines.checks import is_blank
from cogjax.pipelines.reader import Search
from cogjax.worlds.shapes import dataset as shapes
from cogjax.worlds.shapes.captions import read_caption, write_caption
from cogjax.worlds.shapes.oracle import find_shapes, items_of
from cogjax.worlds.shapes.questions import ask_all
from cogjax.worlds.shapes.scenes import Scene
from cogjax.worlds.words import LANGUAGES

SPLITS = ("val", "unseen")
_PART = 64  # rows of the network that are cached together


@dataclass(frozen=True)
class _Images:
    """Images of a split. codes: int32 [n, grid, grid]. scenes: None if unknown."""

    items: Sequence[Example]
    codes: np.ndarray
    scenes: Sequence[Scene] | None


@dataclass(frozen=True)
class ReadingSuite:
    """Settings of the suite.

    data: data set folder; n: images of each held-out split. beams: of beam search.
    best_of: candidates of the round trips, on shapes alone, with `trips` prompts and
    as many images; 0 is off.
    """

    data: str
    n: int = 200
    seed: int = 0
    beams: int = 8
    best_of: int = 8
    trips: int = 64
    name = "reading"

    def check(self, model) -> None:
        """UserError for a data set without held-out images, or too small ones."""
        if read_manifest(self.data).shapes:
            raise UserError(
                f"evaluations are of squares, and {self.data} has other images: build "
                "it without --aspect, and with --fit crop"
            )
        if not self._splits():
            raise UserError(
                f"{self.data} has no held-out images: its splits are "
                f"{', '.join(read_manifest(self.data).counts)}, val is needed"
            )
        if self._is_shapes and model.image_size < LEAST_SIDE:
            raise UserError(
                f"round trips are judged on images of {LEAST_SIDE} px or more, the "
                f"model makes {model.image_size}: train one with larger images"
            )

    def settings(self) -> dict[str, Any]:
        """The numbers, and a digest of the data set's manifest."""
        manifest = (Path(self.data) / "manifest.json").read_bytes()
        digest = hashlib.sha256(manifest).hexdigest()
        return asdict(self) | {"data": None, "data_digest": digest}

    def run(
        self, model: CachedModel, progress: Progress
    ) -> tuple[dict[str, Any], list[Markup]]:
        """As `run.Suite`."""
        report, shown = {}, []
        for split in self._splits():
            images = self._read(model, split)
            work = _Work(model, progress, split)
            report[split] = {"images": len(images.items)}
            found = _captions(work, images, self.beams, self.seed)
            report[split] |= {"captions": found} if found else {}
            if model.answers_questions:
                found, examples = _questions(work, images, self.seed)
                report[split] |= {"questions": found} if found else {}
                shown += examples
        if self.best_of and self._is_shapes:
            work = _Work(model, progress, "round trip")
            images = self._read(model, "val", self.trips)
            report["text_round_trip"] = self._text_trip(work)
            report["image_round_trip"] = _image_trip(
                work, images, self.best_of, self.seed
            )
        return report, reading_page(report, shown)

    @property
    def _is_shapes(self) -> bool:
        return read_manifest(self.data).kind == "shapes"

    def _splits(self) -> list[str]:
        counts = read_manifest(self.data).counts
        return [split for split in SPLITS if counts.get(split)]

    def _read(
        self, model: CachedModel, split: str, count: int | None = None
    ) -> _Images:
        source = open_split(self.data, split)
        count = min(count or self.n, len(source))
        items = [source[i * len(source) // count] for i in range(count)]
        pixels = [decode_image(item.image, model.image_size) for item in items]
        scenes = None
        if self._is_shapes:
            scenes = [Scene.from_json(item.meta["scene"]) for item in items]
        return _Images(items, model.encode(np.stack(pixels)), scenes)

    def _text_trip(self, work: "_Work") -> dict:
        prompts = make_prompts(self.trips, self.seed)
        captions, progress = [prompt.caption for prompt in prompts], work.progress
        label = "generating for round trips"
        codes = generate_codes(
            work.model,
            captions,
            self.best_of,
            self.seed,
            label=label,
            progress=progress,
        )
        losses = score_captions(work.model, captions, codes, progress=progress)
        judged = judge_codes(work.model, prompts, codes, "judging images", progress)
        return text_round_trip(judged, codes, losses, work.captions)


@dataclass(frozen=True)
class _Work:
    """A model that reads in parts, each of which is cached."""

    model: CachedModel
    progress: Progress
    title: str

    def captions(
        self, codes: np.ndarray, language: str, search: Search, label: str
    ) -> list[str]:
        """As `CachedModel.caption_codes`; language "" is the model's own."""

        def work(which: np.ndarray) -> list[str]:
            return self.model.caption_codes(codes[which], language or None, search)

        return self._in_parts(work, len(codes), label)

    def answers(
        self, codes: np.ndarray, questions: Sequence[str], label: str
    ) -> list[str]:
        """As `CachedModel.ask_codes`, greedily."""

        def work(which: np.ndarray) -> list[str]:
            asked = [questions[i] for i in which]
            return self.model.ask_codes(codes[which], asked, Search())

        return self._in_parts(work, len(codes), label)

    def losses(self, codes, texts, label: str, of_image: bool) -> np.ndarray:
        """As `CachedModel.image_losses` or `score_codes`."""
        score = self.model.image_losses if of_image else self.model.score_codes

        def work(which: np.ndarray) -> np.ndarray:
            return score(codes[which], [texts[i] for i in which])

        return np.array(self._in_parts(work, len(codes), label), np.float64)

    def _in_parts(self, work: Callable, total: int, label: str) -> list:
        """Results of all rows; the last part is padded to the same shape."""
        found, label = [], f"{self.title}: {label}"
        for start in range(0, total, _PART):
            self.progress(start, total, label)
            which = np.arange(start, start + _PART)
            found += list(work(np.where(which < total, which, start)))
        self.progress(total, total, label)
        return found[:total]


def _captions(work: _Work, images: _Images, beams: int, seed: int) -> dict:
    """{language: {"greedy", "beams", "reranked", "sampled", "grammar": metrics}}."""
    searches = {
        "greedy": Search(),
        f"{beams} beams": Search(beams=beams),
        f"{beams} beams, reranked": Search(beams=beams, rerank=True),
        "sampled": Search(temperature=SAMPLED, seed=seed),
    }
    languages = {name for item in images.items for name, _ in item.captions}
    report = {}
    for language in sorted(languages):
        known, others = (
            [
                [text for name, text in item.captions if (name == language) == same]
                for item in images.items
            ]
            for same in (True, False)
        )
        if not all(known):
            continue
        made = {
            name: work.captions(images.codes, language, search, f"{name} {language}")
            for name, search in searches.items()
        }
        if images.scenes is not None:
            rng = np.random.default_rng([seed, LANGUAGES.index(language)])
            made["the grammar"] = [
                write_caption(shapes.request_of(scene, rng), language, rng)
                for scene in images.scenes
            ]
        report[language] = {
            name: caption_metrics(texts, known, images.scenes, others)
            for name, texts in made.items()
        }
    return report


def _questions(work: _Work, images: _Images, seed: int):
    """({"right", "another image": metrics}, examples to show)."""
    asked = _asked(images, seed)
    if not asked:
        return {}, []
    texts = [question.question for question in asked]
    which = np.array([question.index for question in asked])
    found = {}
    # Answers about the next image show how much is guessed without looking.
    for name, shift in (("right", 0), ("another image", 1)):
        codes = images.codes[(which + shift) % len(images.codes)]
        answers = work.answers(codes, texts, f"questions, {name}")
        found[name] = answer_metrics(asked, answers)
        if not shift:
            pixels = work.model.decode(images.codes[which[::7][:24]])
            shown = zip(pixels, asked[::7], answers[::7], strict=False)
    return found, list(shown)


def _asked(images: _Images, seed: int) -> list[Asked]:
    """Questions about all images: of the grammar on shapes, else of the data set."""
    asked = []
    for index, item in enumerate(images.items):
        if images.scenes is None:
            asked += [Asked(index, kind, "", q, a) for kind, q, a in item.questions]
            continue
        rng = np.random.default_rng([seed, index])
        asked += [
            Asked(index, each.kind, each.language, each.text, each.answer)
            for each in ask_all(images.scenes[index], rng)
        ]
    return asked


def _image_trip(work: _Work, images: _Images, count: int, seed: int) -> dict:
    """image -> text -> image of captions in both languages in turn."""
    report = {}
    for language in LANGUAGES:
        own = images.codes
        caption = work.captions(own, language, Search(), f"greedy {language}")
        again = work.model.generate(_prompts(caption), 1, seed)
        seen = [items_of(find_shapes(image)) for image in again.pixels[:, 0]]
        stated = [read_caption(text) for text in caption]
        follows = [
            request is not None and shapes.satisfied(request, items)
            for request, items in zip(stated, seen, strict=True)
        ]
        same = [
            _kinds(scene.items) == _kinds(items)
            for scene, items in zip(images.scenes, seen, strict=True)
        ]
        some, losses, image_losses = [], [], []
        for i in range(count):
            search = Search(temperature=SAMPLED, seed=seed + i)
            texts = work.captions(own, language, search, f"sampled {language} {i + 1}")
            some.append(texts)
            texts = _prompts(texts)
            losses.append(work.losses(own, texts, f"losses {i + 1}", of_image=False))
            image_losses.append(
                work.losses(own, texts, f"image losses {i + 1}", of_image=True)
            )
        chosen = caption_choice(
            images.scenes,
            list(zip(*some, strict=True)),
            np.stack(losses, axis=1),
            np.stack(image_losses, axis=1),
        )
        report[language] = {
            "image is what the caption says": share_of(follows),
            "image has the shapes and colours of the original": share_of(same),
            "chosen": chosen,
        }
    return report


def _prompts(captions: Sequence[str]) -> list[str]:
    """Captions as prompts; a blank one becomes "-"."""
    return ["-" if is_blank(text) else text for text in captions]


def _kinds(items) -> list[tuple[str, str]]:
    return sorted((item.shape, item.colour) for item in items)
