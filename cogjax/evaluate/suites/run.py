"""A suite, run on a model: figures as JSON and a page to read, in one folder.

A suite is a frozen dataclass whose fields are its settings; what the network draws and
scores goes through `Kept`, so that a run that was stopped goes on.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from cogjax.evaluate.report.html import Markup, page, section, table
from cogjax.evaluate.suites.cache import Kept, open_folder
from cogjax.files import write_atomic

Progress = Callable[[int, int, str], None]
# Pictures that are drawn between two savings, about.
_CHUNK = 64


class Suite(Protocol):
    """What `run` needs of `ShapesSuite`, `EmojiSuite` and `CocoSuite`."""

    name: str

    def check(self, model) -> None:
        """UserError if the model cannot be evaluated, before any work."""

    def settings(self) -> dict[str, Any]:
        """All that the figures depend on besides the model, JSON-able."""

    def run(
        self, model: Kept, progress: Progress
    ) -> tuple[dict[str, Any], list[Markup]]:
        """Figures, JSON-able, and the parts of the page."""


def run(
    suite: Suite,
    model,
    *,
    out: str | os.PathLike | None,
    identity: Mapping[str, Any],
    about: Mapping[str, Any],
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Runs a suite and writes `out`/report.json and `out`/report.html.

    Args:
      out: folder, new or of the same run before; None writes nothing.
      identity: what makes the model, such as {"model_digest": ..., "weights": ...}.
      about: further fields of the report that may differ when a run goes on.

    Returns:
      The report: about, identity, settings, and the suite's figures.

    Raises:
      UserError: a model that the suite cannot judge, or an `out` of something else.
    """
    suite.check(model)
    settings = {"suite": suite.name, **identity, **suite.settings()}
    folder = open_folder(out, settings) if out else None
    progress = progress or (lambda done, total, label: None)
    figures, parts = suite.run(Kept(model, folder), progress)
    report = {**about, **settings, **figures}
    if folder:
        text = json.dumps(report, indent=2, ensure_ascii=False)
        write_atomic(folder / "report.json", text + "\n")
        rows = [[name, _shown(value)] for name, value in {**about, **settings}.items()]
        facts = section("What was measured", table(["setting", "value"], rows))
        title = f"{about.get('model', 'model')} on {suite.name}"
        write_atomic(folder / "report.html", page(title, *parts, facts))
    return report


def draw(
    model: Kept,
    prompts: Sequence[str],
    count: int,
    seed: int,
    *,
    score: bool = False,
    label: str = "drawing",
    progress: Progress,
    **sampler,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Codes int32 [p, count, grid, grid] of pictures, and losses [p, count] if `score`.

    Picture i of a prompt is that of the seed whatever is drawn beside it, and is kept
    with its chunk of prompts. sampler: guidance, temperature; None: the model's own.
    """
    codes, losses, size, step = [], [], *_chunk(model.batch_size, count)
    total = len(prompts) * count
    for start in range(0, len(prompts), size):
        progress(start * count, total, label)
        chunk = list(prompts[start : start + size])
        # A last call of the network with fewer rows would be compiled on its own.
        filled = chunk + chunk[:1] * (-len(chunk) % step)
        drawn = model.generate(filled, count, seed, **sampler).codes
        if score:
            texts = [text for text in filled for _ in range(count)]
            flat = drawn.reshape(-1, *drawn.shape[2:])
            scored = model.score_codes(flat, texts).reshape(len(filled), count)
            losses.append(scored[: len(chunk)])
        codes.append(drawn[: len(chunk)])
    progress(total, total, label)
    return np.concatenate(codes), np.concatenate(losses) if score else None


def _chunk(batch_size: int, count: int) -> tuple[int, int]:
    """(prompts a chunk, prompts of one call of the network, which divide them)."""
    calls = -(-count // batch_size)
    step = max(1, batch_size // -(-count // calls))
    return max(step, _CHUNK // count // step * step), step


def _shown(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "-"
    return "-" if value is None else str(value)
