"""What readers are made of: intact files, and damage to one of them."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from tests.fuzz import damage
from tests.fuzz.harness import Files

RNG = np.random.default_rng(0)
VALUES = RNG.normal(size=12).astype(np.float32)
PIXELS = RNG.integers(0, 256, (9, 12, 3), np.uint8)
TEXTS = [f"a red cat sits {i}" for i in range(40)] + ["猫 在 这里", "一只猫"] * 9


def files_of(folder: Path) -> Files:
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def each(**kinds: Callable) -> Callable:
    """Damages one file, in the way of the first kind that is the end of its name."""

    def one(rng, files: Files) -> Files:
        name = rng.choice(sorted(files))
        kind = next((k for k in kinds if name.endswith(k)), None)
        change = kinds.get(kind, damage.some_bytes)
        roll = rng.random()
        if len(files) > 1 and roll < 0.04:
            return {other: data for other, data in files.items() if other != name}
        if len(files) > 1 and roll < 0.1:
            other = rng.choice(sorted(files))
            return files | {name: files[other], other: files[name]}
        return files | {name: change(rng, files[name])}

    return one


def random_like(shapes):
    """Arrays of a tree of shapes."""
    return jax.tree.map(
        lambda leaf: RNG.normal(size=leaf.shape).astype(np.float32), shapes
    )


def written(write: Callable[[Path], object]) -> Files:
    """Files that a function writes into a folder."""
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        return files_of(Path(folder))
