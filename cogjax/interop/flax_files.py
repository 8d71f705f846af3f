"""Flax's files of weights, `flax_model.msgpack`: nested maps with arrays as leaves.

    map -> {name: map or array};  array -> ext 1: [shape, name of the dtype, bytes]

Only headers are read to open a file; of what MessagePack can hold nothing but such maps
and arrays is known. Names of nested maps are joined by dots.
"""

import functools
import math
import os
from pathlib import Path
from typing import BinaryIO

import ml_dtypes
import numpy as np

from cogjax.errors import UserError, shown
from cogjax.interop.stored import StoredTensor, widened

_DTYPES = {
    name: np.dtype(name) for name in ("float16", "float32", "float64", "int32", "int64")
}
_DTYPES["bfloat16"] = np.dtype(ml_dtypes.bfloat16)
# Deepest nesting, longest name, that of the maps around it included, and most names in
# all maps: far above those of any network.
_MAX_DEPTH, _MAX_NAME, _MAX_ENTRIES = 32, 1024, 1 << 17
# Lengths that follow a tag, by the tag: bytes of the length.
_MAPS = {0xDE: 2, 0xDF: 4}
_NAMES = {0xD9: 1, 0xDA: 2}
_EXTS = {0xC7: 1, 0xC8: 2, 0xC9: 4}
_BYTES = {0xC4: 1, 0xC5: 2, 0xC6: 4}
_NUMBERS = {0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8}
# The extension of 16 bytes, a float32 alone; the shorter ones hold no array.
_EXT_16 = 0xD8
_ARRAY, _SCALAR = 1, 3
_CHUNKED = "__msgpack_chunked_array__"


def is_flax(head: bytes) -> bool:
    """Whether a file that starts so is a map that is not empty, with a name first."""
    if not head:
        return False
    if 0x81 <= head[0] <= 0x8F:
        name = head[1:2]
    else:
        size = _MAPS.get(head[0], -1)
        name = head[1 + size : 2 + size] if size > 0 else b""
    return name != b"" and (0xA1 <= name[0] <= 0xBF or name[0] in _NAMES)


def open_flax(path: str | os.PathLike) -> dict[str, StoredTensor]:
    """Tensors of a file by their names, to be read one by one.

    Raises UserError for a file that is missing or damaged, or that holds anything but
    named arrays.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            reader = _Reader(file, os.fstat(file.fileno()).st_size, path)
            reader.read_map(reader.tag(), "", 0)
            if file.read(1):
                raise ValueError("something follows its end")
    except OSError as error:
        raise UserError(f"cannot read weights {path}: {error.strerror}") from error
    except ValueError as error:
        raise UserError(
            f"weights {path} are no file of Flax, or a damaged one: {error}"
        ) from error
    return reader.found


class _Reader:
    """Goes through the headers of a file; ValueError for what is not of an array."""

    def __init__(self, file: BinaryIO, size: int, path: Path):
        self._file, self._size, self._path = file, size, path
        self._entries = 0
        self.found: dict[str, StoredTensor] = {}

    def tag(self) -> int:
        """The next byte."""
        return self._take(1)[0]

    def read_map(self, tag: int, start: str, depth: int) -> None:
        """Reads what follows the tag of a map, whose names all begin with `start`."""
        if depth > _MAX_DEPTH:
            raise ValueError(f"it is nested deeper than {_MAX_DEPTH}")
        count = tag - 0x80 if 0x80 <= tag <= 0x8F else self._length(tag, _MAPS, "map")
        self._entries += count
        if self._entries > _MAX_ENTRIES:
            raise ValueError(f"it has more than {_MAX_ENTRIES:,} names")
        for _ in range(count):
            name = start + self._name()
            if len(name) > _MAX_NAME:
                raise ValueError(f"a name has {len(name)} characters")
            tag = self.tag()
            if tag in _EXTS or tag == _EXT_16:
                size = 16 if tag == _EXT_16 else self._number(_EXTS[tag])
                self._read_array(size, name)
            else:
                self.read_map(tag, f"{name}.", depth + 1)

    def _read_array(self, size: int, name: str) -> None:
        kind, end = self.tag(), self._file.tell() + size
        if kind not in (_ARRAY, _SCALAR) or self.tag() != 0x93:
            raise ValueError(f"{shown(name)} is no array")
        sides = self.tag() - 0x90
        if not 0 <= sides <= 8:
            raise ValueError(f"{shown(name)} has no shape of 0 to 8 sides")
        shape = tuple(self._side() for _ in range(sides))
        kind = self._name()
        if kind not in _DTYPES:
            raise UserError(
                f"weights {self._path} refused: {shown(name)} is of type "
                f"{shown(kind)}, known are {', '.join(_DTYPES)}: take the release in "
                "one of these"
            )
        dtype, length = _DTYPES[kind], self._length(self.tag(), _BYTES, "bytes")
        start = self._file.tell()
        if start + length != end or length != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"{shown(name)} has {length} bytes for {shape} of {kind}")
        if end > self._size:
            raise ValueError(f"it ends within {shown(name)}: fetch it again")
        if name in self.found:
            raise ValueError(f"{shown(name)} is there twice")
        self._file.seek(end)
        self.found[name] = _stored(self._path, start, shape, dtype)

    def _side(self) -> int:
        tag = self.tag()
        return tag if tag < 0x80 else self._length(tag, _NUMBERS, "number")

    def _name(self) -> str:
        tag = self.tag()
        short = 0xA0 <= tag <= 0xBF
        size = tag - 0xA0 if short else self._length(tag, _NAMES, "name")
        if size > _MAX_NAME:
            raise ValueError(f"a name has {size} bytes")
        name = self._take(size).decode()
        if name == _CHUNKED:
            raise ValueError("an array of more than 1 GiB is in parts: save it as one")
        return name

    def _length(self, tag: int, kinds: dict[int, int], what: str) -> int:
        if tag not in kinds:
            raise ValueError(f"a {what} is expected at {self._file.tell() - 1}")
        return self._number(kinds[tag])

    def _number(self, size: int) -> int:
        return int.from_bytes(self._take(size), "big")

    def _take(self, size: int) -> bytes:
        found = self._file.read(size)
        if len(found) < size:
            raise ValueError("it is cut off: fetch it again")
        return found


def _stored(
    path: Path, start: int, shape: tuple[int, ...], dtype: np.dtype
) -> StoredTensor:
    read = functools.partial(_read, path, start, shape, dtype)
    row = functools.partial(_read_row, path, start, shape, dtype)
    return StoredTensor(shape, widened(dtype), read, row)


def _read(path: Path, start: int, shape: tuple[int, ...], dtype: np.dtype):
    with path.open("rb") as file:
        file.seek(start)
        array = np.fromfile(file, dtype, math.prod(shape))
    if array.size != math.prod(shape):
        raise UserError(f"weights {path} became shorter: fetch the file again")
    return array.astype(widened(dtype), copy=False).reshape(shape)


def _read_row(path: Path, start: int, shape, dtype: np.dtype, index: int):
    """`_read` of one entry along the first axis."""
    inner = shape[1:]
    return _read(path, start + index * math.prod(inner) * dtype.itemsize, inner, dtype)
