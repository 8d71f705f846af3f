"""`--suite emoji`: the metrics of `evaluate/judges/emoji.py` as a report."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cogjax.data.contact_sheet import grid
from cogjax.data.images import encode_png
from cogjax.data.records import read_manifest
from cogjax.errors import UserError
from cogjax.evaluate.judges import emoji
from cogjax.evaluate.report.html import Markup, image, note, section, share, table
from cogjax.evaluate.suites.cache import CachedModel
from cogjax.evaluate.suites.run import Progress
from cogjax.files import write_atomic

_PROMPTS_A_ROW = 3  # of the sheet


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
        digests = {name: _manifest_digest(folder) for name, folder in sets.items()}
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
        sheet = grid(np.concatenate(rows), _PROMPTS_A_ROW * len(rows[0]))
        png = encode_png(np.asarray(sheet))
        if self.sheet:
            write_atomic(self.sheet, png)
        return metrics, _page(metrics, png)


def _page(metrics: Mapping, png: bytes) -> list[Markup]:
    parts = []
    for name, title in (("train", "Seen pairs"), ("pairs", "Held-out pairs")):
        found = metrics[f"generation_{name}"]
        rows = [
            [f"{judge.replace('_', ' ')}, {which}", *_columns(found, judge, which)]
            for judge in found["best_of_1"]
            for which in found["best_of_1"][judge]
        ]
        columns = [key.replace("_", " ") for key in found if key != "prompts"]
        head = ["share [95 %]", *columns]
        caption = f"{found['prompts']} prompts"
        parts.append(section(f"{title}: concept and style", table(head, rows, caption)))
    rows = [
        [split, *map(share, metrics[f"captions_{split}"]["right_of_20"].values())]
        for split in emoji.SPLITS
    ]
    head = ["split", *metrics["captions_train"]["right_of_20"]]
    parts.append(section("Own label has the lowest loss of 20", table(head, rows)))
    rows = [
        [name.replace("_", " "), value] for name, value in metrics["tokenizer"].items()
    ]
    rows.append(["style judge on real images", metrics["style_judge_on_real"]])
    parts.append(section("Tokenizer and judge", table(["metric", "value"], rows)))
    text = "A row holds three prompts; of each: real, best of N, three others."
    parts.append(section("Images", note(text), image(png, "images", "sheet")))
    return parts


def _columns(found: Mapping, judge: str, which: str) -> list[str]:
    return [share(found[key][judge][which]) for key in found if key != "prompts"]


def _manifest_digest(folder: str | os.PathLike) -> str:
    data = (Path(folder) / "manifest.json").read_bytes()
    return hashlib.sha256(data).hexdigest()
