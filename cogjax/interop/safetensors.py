"""Parameter trees as .safetensors files: no code runs when one is read."""

import functools
import json
import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np
import safetensors
import safetensors.numpy

from cogjax.errors import UserError, shown
from cogjax.files import write_atomic
from cogjax.interop.stored import StoredTensor, widened
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
    "BOOL": np.bool_,
}
Parts = Callable[[str], Iterable[np.ndarray]]


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

    Tensor by tensor: memory holds no weight twice. Raises UserError for a missing or
    damaged file, with a guess at what it is.
    """
    flat = {name: stored.read() for name, stored in open_safetensors(path).items()}
    try:
        return unflatten(flat)
    except ValueError as error:
        raise UserError(f"weights {path} refused: {error}") from error


def _entries(header: bytes, size: int, path: Path) -> dict[str, Any]:
    """The header of so many bytes, parsed; ValueError if it is cut or too long.

    UserError for a name that is there twice, of which the library keeps the last.
    """
    if size > _MAX_HEADER or len(header) < size:
        raise ValueError("the header is longer than the file, or than any network's")

    def entries(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        counts = Counter(name for name, _ in pairs)
        twice = [name for name, n in counts.items() if n > 1]
        if twice:
            raise UserError(f"weights {path} refused: {shown(twice[0])} is there twice")
        return dict(pairs)

    return json.loads(header, object_pairs_hook=entries)


def open_safetensors(path: str | os.PathLike) -> dict[str, StoredTensor]:
    """Tensors of a file by their names, to be read one by one.

    Raises UserError as `load_tree` does.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            entries = _entries(file.read(min(size, _MAX_HEADER + 1)), size, path)
        with safetensors.safe_open(path, "numpy"):
            pass  # It compares the header with the size of the file.
        entries.pop("__metadata__", None)
        found = {}
        for name, entry in entries.items():
            if entry["dtype"] not in _DTYPES:
                raise UserError(
                    f"weights {path} refused: {shown(name)} is of type "
                    f"{shown(entry['dtype'])}, known are {', '.join(_DTYPES)}: take "
                    "the release in one of these"
                )
            dtype, shape = np.dtype(_DTYPES[entry["dtype"]]), tuple(entry["shape"])
            read = functools.partial(
                _read, path, 8 + size + entry["data_offsets"][0], shape, dtype
            )
            found[name] = StoredTensor(shape, widened(dtype), read)
        return found
    except OSError as error:
        raise UserError(f"cannot read weights {path}: {error.strerror}") from error
    except (safetensors.SafetensorError, ValueError, KeyError, RecursionError) as error:
        raise UserError(
            f"weights {path} are not a safetensors file{guess(path)}"
        ) from error


def _read(path: Path, start: int, shape: tuple[int, ...], dtype: np.dtype):
    # Unlike bytes it makes an array that its owner may change.
    data = bytearray(math.prod(shape) * dtype.itemsize)
    try:
        with path.open("rb") as file:
            file.seek(start)
            count = file.readinto(data)
    except OSError as error:
        raise UserError(f"cannot read weights {path}: {error.strerror}") from error
    if count < len(data):
        raise UserError(f"weights {path} are cut short")
    return np.asarray(np.frombuffer(data, dtype).reshape(shape), widened(dtype))


def write_leaves(
    path: Path, leaves: Mapping[str, Any], dtype: str, parts: Parts
) -> None:
    """Writes leaves one after the other; only a part of one is in memory.

    leaves: anything with a shape, by name. dtype: "float32", "float16" or "bfloat16",
    that of the file. parts: gives the values of a leaf, in order.
    Raises UserError for values that are no numbers, ValueError for too few or many.
    """
    stored = np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    names = {np.dtype(form): name for name, form in _DTYPES.items()}
    header, place = {}, 0
    for name, leaf in leaves.items():
        end = place + math.prod(leaf.shape) * stored.itemsize
        header[name] = {
            "dtype": names[stored],
            "shape": list(leaf.shape),
            "data_offsets": [place, end],
        }
        place = end
    data = json.dumps(header, separators=(",", ":")).encode()
    data += b" " * (-len(data) % 8)
    with path.open("xb") as file:
        file.write(len(data).to_bytes(8, "little") + data)
        for name, leaf in leaves.items():
            _write_leaf(file, name, math.prod(leaf.shape), stored, parts(name))


def _write_leaf(file: BinaryIO, name: str, count: int, dtype: np.dtype, parts) -> None:
    for part in parts:
        values = np.asarray(part, dtype, order="C")
        if not np.isfinite(values).all():
            raise UserError(f"{name} has values that are no numbers (NaN, inf)")
        # NumPy's buffers know no bfloat16.
        file.write(values.reshape(-1).view(np.uint8))
        count -= values.size
    if count:
        raise ValueError(f"{name} has {count} values too few")


def guess(path: Path) -> str:
    """What a file is that holds no weights, in brackets."""
    return f" ({failed_download(path) or 'it is damaged or cut short'})"


def failed_download(path: Path) -> str:
    """What a file is instead of the one that was fetched, "" if nothing tells."""
    with path.open("rb") as file:
        head = file.read(64).lstrip()
    if not head:
        return "it is empty"
    if head.startswith(b"<") and b"\0" not in head:
        return "it looks like an HTML page: the download failed"
    if head.startswith(b"version https://git-lfs"):
        return "it is a git-lfs pointer: run `git lfs pull`"
    return ""
