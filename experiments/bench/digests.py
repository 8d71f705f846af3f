"""What it costs to compare files with their digests when they are opened.

    python experiments/bench/digests.py

A model folder's sha256 are read at every opening. A data set's marks are too, its
checksums only by `cogjax verify`. Medians of 9, in seconds.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import cogjax
from cogjax import model_folder
from cogjax.data import manifest
from cogjax.data.images import encode_png
from cogjax.data.records import DatasetBuilder, Example, open_split
from cogjax.files import file_sha256


def seconds(run: Callable[[], object]) -> float:
    """Median of 9, after one that is not counted."""
    times = []
    for _ in range(10):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def megabytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.iterdir()) / 1e6


def of_a_model(folder: Path) -> None:
    """The shipped `emoji`, saved whole."""
    cogjax.load("emoji").save(folder)
    files = [path for path in folder.iterdir() if path.name != "config.json"]
    opened = seconds(lambda: model_folder.load(folder))
    digests = seconds(lambda: [file_sha256(path) for path in files])
    print(
        f"model of {megabytes(folder):.1f} MB: opened in {opened:.3f}, of which "
        f"digests {digests:.3f}"
    )


def of_a_data_set(folder: Path) -> None:
    """10,000 images of noise in 4 shards."""
    rng = np.random.default_rng(0)
    with DatasetBuilder(folder, "noise", 64, {"train": 4}) as builder:
        for i in range(10_000):
            pixels = rng.integers(0, 256, (64, 64, 3), np.uint8)
            builder.write("train", Example(str(i), encode_png(pixels), (("en", "a"),)))
        builder.finish({})
    shards = [folder / name for name in manifest.read_manifest(folder).checksums]
    opened = seconds(lambda: open_split(folder, "train"))
    marks = seconds(lambda: [manifest.mark(path) for path in shards])
    checksums = seconds(lambda: [file_sha256(path) for path in shards])
    print(
        f"data set of {megabytes(folder):.1f} MB: opened in {opened:.4f}, of which "
        f"marks {marks:.5f}; checksums {checksums:.3f}"
    )


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        of_a_model(Path(folder) / "model")
        of_a_data_set(Path(folder) / "set")


if __name__ == "__main__":
    main()
