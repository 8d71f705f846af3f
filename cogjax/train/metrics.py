"""The numbers and images that a run writes."""

import contextlib
import io
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image, PngImagePlugin

from cogjax.files import write_atomic

METRICS, SAMPLES = "metrics.jsonl", "samples"
_LAST_STEP = 2**53  # beyond, not every number is a float
_LAST_TIME = 253402300800  # seconds from 1970 to the year 10000


def read_rows(path: Path) -> Iterator[dict[str, Any] | None]:
    """The rows of a metrics file, one at a time; None for a line that is none.

    A row has a "step" (int), a "time" (seconds since 1970) and numbers. A crash cuts
    its last line short.
    """
    for row in read_lines(path):
        yield row if _is_row(row) else None


def read_lines(path: Path) -> Iterator[Any]:
    """What each line of a file of JSON lines holds, None for one that is damaged."""
    if not path.exists():
        return
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                yield json.loads(line)
            except (ValueError, RecursionError):
                yield None


def _is_row(row: Any) -> bool:
    if not isinstance(row, dict) or type(row.get("step")) is not int:
        return False
    if not is_moment(row["step"], row.get("time")):
        return False
    return all(
        type(x) is float or type(x) is int and abs(x) <= _LAST_STEP
        for x in row.values()
    )


def is_moment(step: Any, seconds: Any) -> bool:
    """Whether a run can have been at this step at this time since 1970."""
    if not all(type(x) in (int, float) for x in (step, seconds)):
        return False
    return 0 <= step <= _LAST_STEP and 0 <= seconds < _LAST_TIME


class Logger:
    """Writes metrics.jsonl, TensorBoard events in tb/ and PNGs in samples/.

    Only process 0 writes. lost_seconds: the time that the rows took which a resumed
    run drops.
    """

    def __init__(self, workdir: Path, start_step: int = 0):
        """On resume, drops the rows that the restored step has not seen yet."""
        self.workdir = workdir
        self._path = workdir / METRICS
        self._tb = None
        self.lost_seconds = self.rewind(start_step)

    def rewind(self, step: int) -> float:
        """Drops the rows after `step`; returns the seconds from their first to last."""
        if jax.process_index() > 0:
            return 0.0
        from tensorboardX import SummaryWriter

        Logger.close(self)
        rows = [row for row in read_rows(self._path) if row]
        earlier = [row for row in rows if row["step"] <= step]
        if self._path.exists():
            lines = [json.dumps(row) + "\n" for row in earlier]
            write_atomic(self._path, "".join(lines))
        self._tb = SummaryWriter(str(self.workdir / "tb"), purge_step=step + 1)
        dropped = [row["time"] for row in rows if row["step"] > step]
        return dropped[-1] - dropped[0] if dropped else 0.0

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Appends one row of finite and non-finite numbers alike."""
        if self._tb is None:
            return
        row = {"step": step, "time": round(time.time(), 3)}
        row |= {name: float(value) for name, value in values.items()}
        with self._path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        for name, value in values.items():
            self._tb.add_scalar(name, float(value), step)

    def images(
        self, step: int, images: Mapping[str, np.ndarray], texts: Sequence[str] = ()
    ) -> None:
        """Writes uint8 images [y, x, 3]; texts: what they show, kept in the files."""
        if self._tb is None:
            return
        for name, pixels in images.items():
            path = self.workdir / SAMPLES / f"{step:07d}-{name}.png"
            save_png(path, pixels, list(texts))
            self._tb.add_image(name, pixels, step, dataformats="HWC")

    def close(self) -> None:
        """Flushes TensorBoard's buffers."""
        if self._tb is not None:
            self._tb.close()


_NOTE = "cogjax"


def save_png(path: Path, pixels: np.ndarray, note: Any) -> None:
    """Writes uint8 [y, x, 3], and inside a note: any JSON value; whole or not at all.

    Raises UserError when the system refuses.
    """
    info = PngImagePlugin.PngInfo()
    info.add_itxt(_NOTE, json.dumps(note, ensure_ascii=False))
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", pnginfo=info)
    write_atomic(path, buffer.getvalue())


def png_note(image: Image.Image) -> Any:
    """The note of a file of `save_png`; None for one without."""
    image.load()
    with contextlib.suppress(ValueError, RecursionError):
        return json.loads(getattr(image, "text", {}).get(_NOTE, "null"))
