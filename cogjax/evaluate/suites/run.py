"""A suite, run on a model: metrics as JSON and a page to read, in one folder.

A suite is a frozen dataclass whose fields are its settings. The model is wrapped in a
`CachedModel`, so that a stopped run goes on, but for a CLIP, which is quick.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from cogjax.data.output import Progress
from cogjax.errors import UserError
from cogjax.evaluate.report.html import Markup, page, section, table
from cogjax.evaluate.suites.cache import CachedModel, open_folder
from cogjax.files import write_atomic
from cogjax.pipelines.contracts import Embedder

# About as many images are cached together.
_CHUNK = 64


class Suite(Protocol):
    """A suite, as `run` sees it."""

    name: str

    def check(self, model) -> None:
        """UserError if the model cannot be evaluated, before any work."""

    def settings(self) -> dict[str, Any]:
        """Everything that the metrics depend on besides the model, JSON-able."""

    def run(
        self, model: Any, progress: Progress
    ) -> tuple[dict[str, Any], list[Markup]]:
        """Metrics, JSON-able, and the parts of the page."""


def _check_squares(model: Any) -> None:
    """UserError for images that are no squares, which no suite compares."""
    rows, columns = next(iter(getattr(model, "shapes", ())), (1, 1))
    if rows != columns:
        raise UserError(
            f"evaluations are of squares, and this model draws {rows} x {columns} codes"
        )


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
      identity: identifies the model, such as {"model_digest": ..., "weights": ...}.
      about: further fields of the report that may differ when a run goes on.

    Returns:
      The report: about, identity, settings, and the suite's metrics.

    Raises:
      UserError: the suite cannot judge the model, or `out` holds something else.
    """
    _check_squares(model)
    suite.check(model)
    settings = {"suite": suite.name, **identity, **suite.settings()}
    folder = open_folder(out, settings) if out else None
    progress = progress or (lambda done, total, label: None)
    held = model if isinstance(model, Embedder) else CachedModel(model, folder)
    metrics, parts = suite.run(held, progress)
    report = {**about, **settings, **metrics}
    if folder:
        text = json.dumps(report, indent=2, ensure_ascii=False)
        write_atomic(folder / "report.json", text + "\n")
        rows = [[name, _shown(value)] for name, value in {**about, **settings}.items()]
        facts = section("What was measured", table(["setting", "value"], rows))
        title = f"{about.get('model', 'model')} on {suite.name}"
        write_atomic(folder / "report.html", page(title, *parts, facts))
    return report


def generate_codes(
    model: CachedModel,
    prompts: Sequence[str],
    count: int,
    seed: int,
    *,
    label: str = "generating",
    progress: Progress,
    **sampler,
) -> np.ndarray:
    """Codes int32 [p, count, grid, grid] of images, or pixels of a model without codes.

    Image i of a prompt depends on the seed alone, not on what is generated beside it.
    It is cached with its chunk of prompts. sampler: guidance, temperature; None: the
    model's own.
    """
    codes, total = [], len(prompts) * count
    for which in _chunks(len(prompts), model.batch_size, count):
        progress(which[0] * count, total, label)
        texts = [prompts[i] for i in which]
        found = model.generate(texts, count, seed, **sampler)
        codes.append(found.pixels if found.codes is None else found.codes)
    progress(total, total, label)
    return np.concatenate(codes)[: len(prompts)]


def decoded(model: CachedModel, images: np.ndarray) -> np.ndarray:
    """Pixels uint8 [p, g, y, x, 3] of what `generate_codes` gives."""
    if not model.decode:
        return images
    pixels = model.decode(images.reshape(-1, *images.shape[2:]))
    return pixels.reshape(*images.shape[:2], *pixels.shape[1:])


def score_captions(
    model: CachedModel,
    prompts: Sequence[str],
    codes: np.ndarray,
    *,
    progress: Progress,
) -> np.ndarray:
    """Losses float32 [p, count] of the prompts given codes [p, count, grid, grid]."""
    count, losses = codes.shape[1], []
    total = len(prompts) * count
    for which in _chunks(len(prompts), model.batch_size, count):
        progress(which[0] * count, total, "scoring")
        texts = [prompts[i] for i in which for _ in range(count)]
        flat = codes[which].reshape(-1, *codes.shape[2:])
        losses.append(model.score_codes(flat, texts).reshape(-1, count))
    progress(total, total, "scoring")
    return np.concatenate(losses)[: len(prompts)]


def _chunks(num_prompts: int, batch_size: int, count: int) -> Iterator[np.ndarray]:
    """Indices of the prompts of each chunk, for `count` images of a prompt.

    The last chunk is filled up with its first prompt: a call of the network with fewer
    rows would be compiled on its own.
    """
    calls = -(-count // batch_size)
    step = max(1, batch_size // -(-count // calls))  # prompts a call of the network
    size = max(step, _CHUNK // count // step * step)
    for start in range(0, num_prompts, size):
        which = np.arange(start, min(start + size, num_prompts))
        yield np.append(which, np.full(-len(which) % step, start))


def _shown(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "-"
    return "-" if value is None else str(value)
