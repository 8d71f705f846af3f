"""Where a run writes its numbers and pictures."""

import json
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from cogjax.files import write_atomic


class Logger:
    """Writes metrics.jsonl, TensorBoard events in tb/ and PNGs in samples/."""

    def __init__(self, workdir: Path, start_step: int = 0):
        """On resume, drops the rows that the restored step has not seen yet."""
        from tensorboardX import SummaryWriter

        self.workdir = workdir
        self._path = workdir / "metrics.jsonl"
        if self._path.exists():
            rows = self._path.read_text().splitlines(keepends=True)
            kept = [row for row in rows if json.loads(row)["step"] <= start_step]
            write_atomic(self._path, "".join(kept))
        self._tb = SummaryWriter(str(workdir / "tb"), purge_step=start_step + 1)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Appends one row of finite and non-finite numbers alike."""
        row = {"step": step, "time": round(time.time(), 3)}
        row |= {name: float(value) for name, value in values.items()}
        with self._path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        for name, value in values.items():
            self._tb.add_scalar(name, float(value), step)

    def images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        """Writes uint8 pictures [y, x, 3]."""
        folder = self.workdir / "samples"
        folder.mkdir(exist_ok=True)
        for name, pixels in images.items():
            Image.fromarray(pixels).save(folder / f"{step:07d}-{name}.png")
            self._tb.add_image(name, pixels, step, dataformats="HWC")

    def close(self) -> None:
        """Flushes what TensorBoard holds back."""
        self._tb.close()
