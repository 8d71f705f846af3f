"""`--suite retrieval`: which caption is the image's, and which image the caption's?

On each held-out split, in each language: an image among all captions, and a caption
among all images (Radford et al. 2021, section 3.1). Where the data set has concepts,
also an image among the names of all of them. On shapes every caption that is true of an
image is right, elsewhere those that read as its own. Beside each share stand chance,
and the share with the right answers of another image.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cogjax.data.records import Example, decode_image, open_split, read_manifest
from cogjax.errors import UserError
from cogjax.evaluate.judges.reading import share_of
from cogjax.evaluate.metrics.retrieval import chance, found
from cogjax.evaluate.report.html import Markup, section, share_cell, table
from cogjax.evaluate.suites.run import Progress
from cogjax.pipelines.contracts import Embedder
from cogjax.worlds.shapes.captions import read_caption
from cogjax.worlds.shapes.dataset import satisfied
from cogjax.worlds.shapes.scenes import Scene

_HEAD = ("", "top 1 [95 %]", "top 5 [95 %]", "chance", "of another image", "n", "among")


@dataclass(frozen=True)
class RetrievalSuite:
    """Settings of the suite.

    data: data set folder; n: images of each held-out split, spread over it. seed: picks
    one caption an image in each language.
    """

    data: str
    n: int = 1000
    seed: int = 0
    name = "retrieval"

    def check(self, model: Embedder) -> None:
        """UserError for a data set without held-out captions."""
        del model
        if not self._splits():
            raise UserError(
                f"{self.data} has no held-out captions: its splits are "
                f"{', '.join(read_manifest(self.data).counts)}, val is needed"
            )

    def settings(self) -> dict[str, Any]:
        """The numbers, and a digest of the data set's manifest."""
        manifest = (Path(self.data) / "manifest.json").read_bytes()
        digest = hashlib.sha256(manifest).hexdigest()
        return asdict(self) | {"data": None, "data_digest": digest}

    def run(
        self, model: Embedder, progress: Progress
    ) -> tuple[dict[str, Any], list[Markup]]:
        """As `run.Suite`."""
        report, splits, size = {}, self._splits(), read_manifest(self.data).image_size
        for done, split in enumerate(splits):
            progress(done, len(splits), f"comparing {split}")
            items = self._items(split)
            pixels = np.stack([decode_image(item.image, size) for item in items])
            images = model.embed_images(pixels)
            report[split] = {
                "images": len(items),
                "captions": self._captions(model, items, images),
                "concepts": self._concepts(model, items, images),
            }
        progress(len(splits), len(splits), "done")
        return report, [_section(split, report[split]) for split in splits]

    def _splits(self) -> list[str]:
        manifest = read_manifest(self.data)
        held = [split for split in manifest.counts if split != "train"]
        return [s for s in held if manifest.contents.get(s, {}).get("captions")]

    def _items(self, split: str) -> list[Example]:
        source = open_split(self.data, split)
        count = min(self.n, len(source))
        return [source[i * len(source) // count] for i in range(count)]

    def _captions(self, model: Embedder, items, images: np.ndarray) -> dict:
        """Both directions, by language."""
        by_language: dict[str, dict[int, str]] = {}
        for i, item in enumerate(items):
            rng = np.random.default_rng([self.seed, i])
            for language in dict.fromkeys(language for language, _ in item.captions):
                own = [text for other, text in item.captions if other == language]
                picks = by_language.setdefault(language, {})
                picks[i] = own[rng.integers(len(own))]
        report = {}
        for language, picks in sorted(by_language.items()):
            own = [items[i] for i in picks]
            texts = list(dict.fromkeys(picks.values()))
            right = self._right(own, list(picks.values()), texts)
            scores = images[list(picks)] @ model.embed_texts(texts).T
            report[language] = {
                "image_to_text": _measure(scores, right),
                "text_to_image": _measure(scores.T, right.T),
            }
        return report

    def _right(self, items, captions: Sequence[str], texts: Sequence[str]):
        """Which texts are right for each item: bool [n, m]."""
        if read_manifest(self.data).kind != "shapes":
            return np.array(captions)[:, None] == np.array(texts)
        requests = [read_caption(text) for text in texts]
        scenes = [Scene.from_json(item.meta["scene"]).items for item in items]
        return np.array([[satisfied(r, scene) for r in requests] for scene in scenes])

    def _concepts(self, model: Embedder, items, images: np.ndarray) -> dict:
        """An image among the names of all concepts of the set, by language."""
        report = {}
        for language in ("en", "zh"):
            key = f"label_{language}"
            if not all(key in item.meta for item in items):
                continue
            own = np.array([item.meta[key] for item in items])
            names = sorted({*own, *self._names(key)})
            scores = images @ model.embed_texts(names).T
            right = own[:, None] == np.array(names)
            report[language] = {"image_to_name": _measure(scores, right)}
        return report

    def _names(self, key: str) -> set[str]:
        sources = [open_split(self.data, s) for s in read_manifest(self.data).counts]
        metas = (source[i].meta for source in sources for i in range(len(source)))
        return {meta[key] for meta in metas if key in meta}


def _measure(scores: np.ndarray, right: np.ndarray) -> dict[str, Any]:
    """Top 1 and top 5 with chance, and top 1 with the answers of another query.

    The other is drawn: neighbours in a data set show one thing in two colours. Answers
    that are right for both do not count.
    """
    asked = right.any(1)
    scores, right = scores[asked], right[asked]
    order = np.random.default_rng(0).permutation(len(right))
    others = np.empty_like(right)
    others[order] = right[np.roll(order, 1)]
    others &= ~right
    told = others.any(1)
    return {
        "top_1": share_of(found(scores, right, 1)),
        "top_5": share_of(found(scores, right, 5)),
        "chance_1": chance(right, 1),
        "chance_5": chance(right, 5),
        "shuffled_1": share_of(found(scores[told], others[told], 1)),
        "among": right.shape[1],
    }


def _section(split: str, report: Mapping) -> Markup:
    rows = []
    for kind in ("captions", "concepts"):
        for language, directions in report[kind].items():
            for name, values in directions.items():
                title = f"{language or 'any language'}, {name.replace('_', ' ')}"
                rows.append([title, *_cells(values)])
    return section(split, table(_HEAD, rows, f"{report['images']} images"))


def _cells(values: Mapping) -> list[object]:
    return [
        share_cell(values["top_1"]),
        share_cell(values["top_5"]),
        f"{values['chance_1']:.4f}, {values['chance_5']:.4f}",
        share_cell(values["shuffled_1"]),
        values["top_1"]["count"],
        values["among"],
    ]
