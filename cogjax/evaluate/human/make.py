"""Makes the folder of a human evaluation: images, the page for raters, the key.

page.html      goes to raters
key.json       says who drew what: stays here
settings.json, drawn/   so that the same command goes on after a stop
"""

import hashlib
import json
import os
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cogjax.config import load_json
from cogjax.data.output import Progress
from cogjax.errors import UserError
from cogjax.evaluate.human.candidates import (
    MAX_SIDE,
    Folder,
    Images,
    longer_side,
    noise,
    sheet,
)
from cogjax.evaluate.human.page import check_bytes, page
from cogjax.evaluate.human.study import FORMS, NOISE, Prompt, Study, make_study
from cogjax.evaluate.suites.cache import SETTINGS, CachedModel, open_folder
from cogjax.evaluate.suites.run import decoded, generate_codes
from cogjax.files import write_atomic
from cogjax.pipelines.request import Request

# Bytes of the page for one of an image: PNG of a photograph, as base64. Noise has more.
_PACKED = 0.5 * 4 / 3
_CHECK_EVERY, _LEAST_CHECKS = 10, 5  # prompts a check; checks of a page


@dataclass(frozen=True)
class Drawing:
    """A loaded model that draws, and what tells it from another: its digest."""

    model: Any
    digest: str


@dataclass(frozen=True)
class Design:
    """What raters see. num_images, checks: None is the form's and one in ten.

    language: of the prompts. seed: of all images, the same for every model.
    """

    form: str
    language: str = "en"
    num_images: int | None = None
    checks: int | None = None
    per_rater: int = 0
    seed: int = 0

    @property
    def count(self) -> int:
        """Images of a candidate."""
        return self.num_images or FORMS[self.form].num_images

    def num_checks(self, prompts: int) -> int:
        """How many items have a known answer, at most one a prompt."""
        if self.checks is None:
            return min(max(_LEAST_CHECKS, prompts // _CHECK_EVERY), prompts)
        if self.checks > prompts:
            raise UserError(
                f"--checks {self.checks}: there are {prompts} prompts; at most one a "
                "prompt"
            )
        return self.checks


def make(
    out: str | os.PathLike,
    contenders: dict[str, Drawing | Folder],
    prompts: Sequence[Prompt],
    design: Design,
    progress: Progress,
) -> Study:
    """Draws what is not there yet and writes the folder.

    contenders: by name, two or more. UserError, before any drawing, for what a model
    cannot do, images that are missing, and a folder of another evaluation.
    """
    texts = [prompt.text for prompt in prompts]
    checks = design.num_checks(len(prompts))
    drawn: dict[str, Sequence[Images]] = {}
    identities = {}
    for name, contender in contenders.items():
        if isinstance(contender, Folder):
            contender.check(texts, design.count)
            drawn[name] = contender.read(texts, design.count)
            identities[name] = {"images": contender.digest(texts, design.count)}
        else:
            contender.model.check(Request(texts, design.count, design.seed))
            identities[name] = {"model": contender.digest}
    _check_size(contenders, drawn, len(prompts) * design.count)
    listed = json.dumps([asdict(prompt) for prompt in prompts])
    settings = {"suite": "human", **asdict(design), "num_images": design.count}
    settings |= {"checks": checks, "models": identities, "n": len(prompts)}
    settings["prompts_digest"] = hashlib.sha256(listed.encode()).hexdigest()
    settings["secret"] = _secret(out)
    folder = open_folder(out, settings)
    for name, contender in contenders.items():
        if isinstance(contender, Drawing):
            kept = folder / "drawn" / contender.digest[:16]
            own = CachedModel(contender.model, kept)
            drawn[name] = _draw(own, texts, design, progress, f"drawing, {name}")
    names = list(contenders)
    study = make_study(design.form, names, prompts, settings, checks, design.per_rater)
    _write(folder, study, [drawn[name] for name in names], design)
    return study


def _secret(out: str | os.PathLike) -> str:
    """What opaque names are made with: at random, and kept for when a run goes on."""
    path = Path(out) / SETTINGS
    kept = load_json(path).get("secret") if path.is_file() else None
    return kept or secrets.token_hex(16)


def _check_size(
    contenders: dict[str, Drawing | Folder],
    drawn: dict[str, Sequence[Images]],
    images: int,
) -> None:
    """UserError if what is to be drawn cannot be expected to fit into a page.

    drawn: of folders, which is there. images: of each contender.
    """
    models = [each.model for each in contenders.values() if isinstance(each, Drawing)]
    sides = [min(model.image_size, MAX_SIDE) for model in models]
    sides += [longer_side(each) for each in drawn.values()]
    check_bytes(int(len(models) * images * 3 * max(sides) ** 2 * _PACKED))


def _draw(
    model: CachedModel, texts: list[str], design: Design, progress: Progress, label: str
) -> Sequence[Images]:
    codes = generate_codes(
        model, texts, design.count, design.seed, label=label, progress=progress
    )
    return list(decoded(model, codes))


def _write(
    folder: Path, study: Study, drawn: Sequence[Sequence[Images]], design: Design
) -> None:
    side = max(longer_side(each) for each in drawn)
    sheets = {
        (model, prompt): sheet(images, side)
        for model, each in enumerate(drawn)
        for prompt, images in enumerate(each)
    }
    for prompt in (item.prompt for item in study.items if item.is_check):
        rng = np.random.default_rng([int(study.id, 16), prompt])
        sheets[NOISE, prompt] = sheet(noise(design.count, side, rng), side)
    html = page(study, sheets, design.language)
    # Without its key a page is worth nothing: the key is there first.
    write_atomic(folder / "key.json", study.key())
    write_atomic(folder / "page.html", html)
