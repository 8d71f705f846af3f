"""Parameter trees as .safetensors files: no code runs when one is read."""

import json
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import safetensors
import safetensors.numpy

from cogjax.errors import UserError, shown
from cogjax.files import write_atomic
from cogjax.interop.tree import flatten, unflatten

_MAX_HEADER = 1 << 24
_DTYPES = {
    "BF16": ml_dtypes.bfloat16,
    "F16": np.float16,
    "F32": np.float32,
    "F64": np.float64,
    "I32": np.int32,
    "I64": np.int64,
    "U8": np.uint8,
}


def save_tree(path: str | os.PathLike, tree: Mapping[str, Any], dtype: str | None):
    """Writes a nested dict of arrays; floating leaves are cast to `dtype` if given."""

    def array(leaf):
        leaf = np.asarray(leaf)
        floating = np.issubdtype(leaf.dtype, np.floating)
        # Not ascontiguousarray, which makes a row of a scalar.
        return np.asarray(leaf, dtype if dtype and floating else None, order="C")

    flat = {name: array(leaf) for name, leaf in flatten(tree).items()}
    write_atomic(Path(path), safetensors.numpy.save(flat))


def load_tree(path: str | os.PathLike) -> dict[str, Any]:
    """Reads a nested dict of arrays, half-precision leaves widened to float32.

    Raises UserError for a missing or damaged file, with a guess at what it is.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
        _check_header(data, path)
        flat = {n: _array(t) for n, t in safetensors.deserialize(data)}
    except OSError as error:
        raise UserError(f"cannot read weights {path}: {error.strerror}") from error
    except (safetensors.SafetensorError, ValueError, KeyError, RecursionError) as error:
        raise UserError(
            f"weights {path} are not a safetensors file{_guess(path)}"
        ) from error
    try:
        return unflatten({name: _widen(leaf) for name, leaf in flat.items()})
    except ValueError as error:
        raise UserError(f"weights {path} refused: {error}") from error


def _check_header(data: bytes, path: Path) -> None:
    """UserError for a name that is there twice, of which the library keeps the last."""
    size = int.from_bytes(data[:8], "little")
    if size > min(_MAX_HEADER, len(data)):
        raise ValueError("the header is longer than the file, or than any network's")

    def entries(pairs: list[tuple[str, Any]]) -> None:
        twice = [
            name for name, n in Counter(name for name, _ in pairs).items() if n > 1
        ]
        if twice:
            raise UserError(f"weights {path} refused: {shown(twice[0])} is there twice")

    json.loads(data[8 : 8 + size], object_pairs_hook=entries)


def _array(tensor: Mapping[str, Any]) -> np.ndarray:
    """One stored tensor; the library's own numpy reader has no bfloat16."""
    array = np.frombuffer(tensor["data"], _DTYPES[tensor["dtype"]])
    return array.reshape(tensor["shape"])


def _widen(leaf: np.ndarray) -> np.ndarray:
    return leaf.astype(np.float32) if leaf.dtype.itemsize == 2 else leaf


def _guess(path: Path) -> str:
    head = path.read_bytes()[:64].lstrip()
    if not head:
        return " (it is empty)"
    if head.startswith(b"<"):
        return " (it looks like an HTML page: the download failed)"
    if head.startswith(b"version https://git-lfs"):
        return " (it is a git-lfs pointer: run `git lfs pull`)"
    return " (it is damaged or cut short)"
