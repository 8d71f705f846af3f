"""`--suite icons`: a model on the set `icons`, split by split.

Each split asks another question (`worlds/icons/splits.py`). A figure stands beside that
of real images through the model's image tokenizer, its ceiling, and as a share of it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cogjax.data.records import Example, decode_image, read_manifest
from cogjax.errors import UserError
from cogjax.evaluate.judges import icon_net, labelled
from cogjax.evaluate.judges.features import make_extractor
from cogjax.evaluate.judges.gallery import first_colors, make_gallery, thumbnails_of
from cogjax.evaluate.judges.icons import (
    Features,
    IconJudges,
    controls,
    item_of,
    photograph_features,
)
from cogjax.evaluate.report.html import Markup, section, share_cell, table
from cogjax.evaluate.report.labelled import (
    captions_section,
    generation_section,
    images_section,
)
from cogjax.evaluate.suites.cache import CachedModel, data_digest
from cogjax.evaluate.suites.feature_cache import kept_features
from cogjax.evaluate.suites.run import Progress
from cogjax.worlds.icons.palette import CHINESE
from cogjax.worlds.icons.splits import SPLITS

TITLES = {
    "train": "Seen pairs",
    "pairs": "Held-out pairs of concept and style",
    "colors": "Held-out pairs of concept and colour",
    "combinations": "Held-out pairs of colour and theme",
    "val": "Held-out concepts",
}


@dataclass(frozen=True)
class IconsSuite:
    """Settings of the suite.

    data: a set of `cogjax data icons`. n: most prompts of a split, and images to
    caption. best_of: candidates a prompt. sheet: PNG file for images, if any.
    """

    data: str
    n: int = 200
    best_of: int = 8
    seed: int = 0
    sheet: str | None = None
    name = "icons"

    def check(self, model) -> None:
        """UserError if `data` is no set of icons, or a judge has no weights."""
        _check(self.data)

    def settings(self) -> dict[str, Any]:
        """The numbers, and the judges and the set by their digests."""
        return {
            "n": self.n,
            "best_of": self.best_of,
            "seed": self.seed,
            "data_digest": data_digest(self.data),
            "icon_judge": icon_net.digest(),
        }

    def run(
        self, model: CachedModel, progress: Progress
    ) -> tuple[dict[str, Any], list[Markup]]:
        """As `run.Suite`."""
        splits = labelled.load(self.data, SPLITS)
        judges = make_judges([e for split in splits.values() for e in split], progress)
        gallery = judges.gallery
        metrics: dict[str, Any] = {
            "gallery": {
                "concepts": len(gallery.twins),
                "drawings": len(gallery.items),
                "concepts_with_twins": int((gallery.twins.sum(1) > 1).sum()),
            }
        }
        rng = np.random.default_rng(self.seed)
        picked = {name: labelled.pick(x, self.n, rng) for name, x in splits.items()}
        metrics |= self._figures(model, judges, picked, progress)
        rows = metrics.pop("rows")
        labels = labelled.labels_of(splits["train"])
        for name, examples in picked.items():
            metrics[f"captions_{name}"] = labelled.captions(
                model, examples, labels, self.seed, progress
            )
        return metrics, [*_tables(metrics), images_section(rows, self.sheet)]

    def _figures(self, model, judges: IconJudges, picked: dict, progress: Progress):
        """Figures of generated and real images, and rows of images to show."""
        asking = labelled.Asking(self.best_of, self.seed, prompt)
        metrics, rows = {}, []
        for name, examples in picked.items():
            found, shown = labelled.generation(
                model, judges, examples, asking, f"generating {name}", progress
            )
            metrics[f"generation_{name}"] = found
            rows += shown[:6]
        seen = labelled.pixels_of(picked["train"], model.image_size)
        held_out = labelled.pixels_of(picked["val"], model.image_size)
        metrics["tokenizer"] = labelled.tokenizer(model, held_out, model.encode(seen))
        metrics["controls"] = _controls(judges, seen, picked["train"])
        return {**metrics, "rows": rows}


def _check(data: str) -> None:
    """UserError if `data` is no set of icons, or a judge has no weights."""
    if read_manifest(data).kind != "icons":
        raise UserError(f"{data} is no set of icons: give one of `data icons`")
    make_extractor("efflite0")


def recognition(
    data: str, split: str, progress: Progress
) -> Callable[[np.ndarray], np.ndarray]:
    """A judge of the first n images of a split, or of what became of them.

    Returns a function of uint8 images [n, y, x, 3] that gives hits [n]: whether their
    concept is among the five nearest for both kinds of features; NaN where no other
    drawing of it is in the gallery. Raises UserError as `IconsSuite.check`.
    """
    _check(data)
    splits = labelled.load(data, SPLITS)
    if split not in splits:
        raise UserError(
            f"{data} has no split {split!r}: give one of {', '.join(SPLITS)}"
        )
    judges = make_judges([e for part in splits.values() for e in part], progress)

    def judge(images: np.ndarray) -> np.ndarray:
        return judges.hits(images, splits[split][: len(images)])["concept_top5_both"]

    return judge


def make_judges(examples: Sequence[Example], progress: Progress) -> IconJudges:
    """The judges with a gallery of the examples; features go to the user's cache."""
    items = [item_of(example) for example in examples]
    order = first_colors(items)
    images = [examples[i].image for i in order]
    extractor = make_extractor("efflite0")
    features = {
        "efflite0": photograph_features(extractor),
        "icon_net": icon_net.features,
    }
    kept = {
        extractor.id: features["efflite0"],
        f"icon_net:{icon_net.digest()}": icon_net.features,
        "thumbnails": thumbnails_of,
    }
    found = [
        kept_features(key, images, _of_encoded(extract), progress)
        for key, extract in kept.items()
    ]
    gallery = make_gallery([items[i] for i in order], found.pop())
    return IconJudges(gallery, features, dict(zip(features, found, strict=True)))


def _of_encoded(extract: Features) -> Callable[[Sequence[bytes]], np.ndarray]:
    return lambda images: extract(np.stack([decode_image(x) for x in images]))


def prompt(example: Example, language: str, rng) -> str:
    """A caption in the language that names style and colour, never the bare label."""
    texts = [text for lang, text in example.captions if lang == language][1:]
    color = example.meta["color"]
    word = CHINESE.get(color, "") if language == "zh" else color
    texts = [text for text in texts if word in text]
    return texts[rng.integers(len(texts))]


def _controls(judges: IconJudges, images: np.ndarray, examples) -> dict:
    """Figures of images that show nothing, which must be near chance."""
    languages = labelled.alternate(examples)
    return {
        name: {
            figure: labelled.by_language(hits, languages)
            for figure, hits in judges.hits(pixels, examples).items()
            if figure.startswith("concept")
        }
        for name, pixels in controls(images).items()
    }


def _tables(metrics: Mapping) -> list[Markup]:
    parts = [
        generation_section(title, metrics[f"generation_{name}"])
        for name, title in TITLES.items()
    ]
    parts.append(captions_section(metrics, SPLITS))
    rows = [
        [name.replace("_", " "), value]
        for name, value in {**metrics["tokenizer"], **metrics["gallery"]}.items()
    ]
    parts.append(section("Tokenizer and gallery", table(["metric", "value"], rows)))
    rows = [
        [f"{name.replace('_', ' ')}, {figure.replace('_', ' ')}", share_cell(x["all"])]
        for name, figures in metrics["controls"].items()
        for figure, x in figures.items()
    ]
    title = "Images that show nothing, with the prompts of seen pairs"
    parts.append(section(title, table(["image", "share [95 %]"], rows)))
    return parts
