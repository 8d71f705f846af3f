"""`--suite emoji`: the metrics of `evaluate/judges/emoji.py` as a report."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cogjax.data.records import read_manifest
from cogjax.errors import UserError
from cogjax.evaluate.judges import emoji
from cogjax.evaluate.report.html import Markup, section, table
from cogjax.evaluate.report.labelled import (
    captions_section,
    generation_section,
    images_section,
)
from cogjax.evaluate.suites.cache import CachedModel, data_digest
from cogjax.evaluate.suites.run import Progress


@dataclass(frozen=True)
class EmojiSuite:
    """Settings of the suite, the arguments of `emoji.evaluate_emoji`.

    sheet: PNG file for the images that the page shows, if any.
    """

    data: str
    n: int = 200
    best_of: int = 8
    seed: int = 0
    gallery: str | None = None
    sheet: str | None = None
    name = "emoji"

    def check(self, model) -> None:
        """UserError if `data` is no emoji set."""
        if read_manifest(self.data).kind != "emoji":
            raise UserError(f"{self.data} is no emoji set: give one of `data emoji`")

    def settings(self) -> dict[str, Any]:
        """The numbers, and digests of the sets' manifests."""
        sets = {"data_digest": self.data, "gallery_digest": self.gallery or self.data}
        digests = {name: data_digest(folder) for name, folder in sets.items()}
        return {"n": self.n, "best_of": self.best_of, "seed": self.seed, **digests}

    def run(
        self, model: CachedModel, progress: Progress
    ) -> tuple[dict[str, Any], list[Markup]]:
        """As `run.Suite`; the sheet of images is made in any case."""
        metrics, rows = emoji.evaluate_emoji(
            model,
            self.data,
            n=self.n,
            best_of=self.best_of,
            seed=self.seed,
            gallery=self.gallery,
            progress=progress,
        )
        return metrics, [*_tables(metrics), images_section(rows, self.sheet)]


def _tables(metrics: Mapping) -> list[Markup]:
    parts = [
        generation_section(f"{title}: concept and style", metrics[f"generation_{name}"])
        for name, title in (("train", "Seen pairs"), ("pairs", "Held-out pairs"))
    ]
    parts.append(captions_section(metrics, emoji.SPLITS))
    rows = [
        [name.replace("_", " "), value] for name, value in metrics["tokenizer"].items()
    ]
    rows.append(["style judge on real images", metrics["style_judge_on_real"]])
    parts.append(section("Tokenizer and judge", table(["metric", "value"], rows)))
    return parts
