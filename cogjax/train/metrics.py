"""The numbers and images that a run writes."""

import contextlib
import json
import time
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np
from PIL import Image

from cogjax.files import write_atomic


class Logger:
    """Writes metrics.jsonl, TensorBoard events in tb/ and PNGs in samples/.

    Only process 0 writes. lost_seconds: the time that the rows took which a resumed
    run drops.
    """

    def __init__(self, workdir: Path, start_step: int = 0):
        """On resume, drops the rows that the restored step has not seen yet."""
        self.workdir = workdir
        self._path = workdir / "metrics.jsonl"
        self._tb = None
        self.lost_seconds = self.rewind(start_step)

    def rewind(self, step: int) -> float:
        """Drops the rows after `step`; returns the seconds from their first to last."""
        if jax.process_index() > 0:
            return 0.0
        from tensorboardX import SummaryWriter

        self.close()
        rows = self._rows()
        earlier = [row for row in rows if row["step"] <= step]
        if self._path.exists():
            lines = [json.dumps(row) + "\n" for row in earlier]
            write_atomic(self._path, "".join(lines))
        self._tb = SummaryWriter(str(self.workdir / "tb"), purge_step=step + 1)
        dropped = [row["time"] for row in rows if row["step"] > step]
        return dropped[-1] - dropped[0] if dropped else 0.0

    def _rows(self) -> list[dict]:
        """The rows on disk; one that a crash cut short is left out."""
        rows = []
        if self._path.exists():
            for line in self._path.read_text().splitlines():
                with contextlib.suppress(ValueError):
                    rows.append(json.loads(line))
        return rows

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

    def images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        """Writes uint8 images [y, x, 3]."""
        if self._tb is None:
            return
        folder = self.workdir / "samples"
        folder.mkdir(exist_ok=True)
        for name, pixels in images.items():
            Image.fromarray(pixels).save(folder / f"{step:07d}-{name}.png")
            self._tb.add_image(name, pixels, step, dataformats="HWC")

    def close(self) -> None:
        """Flushes TensorBoard's buffers."""
        if self._tb is not None:
            self._tb.close()
