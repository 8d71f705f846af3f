"""Tensors of PyTorch's .pt and .pth files, read without torch and without pickle.

There are three containers; in each a pickle lists the tensors:

- zip (torch >= 1.6): `NAME/data.pkl`, the bytes of storage K in `NAME/data/K`;
- TorchScript, such as OpenAI's CLIP: the same, the tensors as attributes of objects;
- legacy (torch < 1.6): five pickles in a row, then the storages.

What is listed may be a state dict, a checkpoint of Lightning or DeepSpeed around one,
or a whole module. `interop/pickles.py` makes the pickles harmless.
"""

import functools
import io
import math
import os
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

from cogjax.errors import UserError
from cogjax.interop.pickles import (
    Inert,
    Known,
    PickleMachine,
    check_sizes,
    flatten_arrays,
)
from cogjax.interop.stored import StoredTensor, widened

# Structure only: the largest network here needs 100 kB.
_MAX_PICKLE = 1 << 26
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
# The pickle of the magic number, with which legacy files start.
LEGACY_START = b"\x80\x02\x8a\n" + _LEGACY_MAGIC.to_bytes(10, "little") + b"."
_CHUNK = 1 << 24

_STORAGES = {
    f"torch {name}Storage": np.dtype(dtype)
    for name, dtype in {
        "Float": np.float32,
        "Half": np.float16,
        "BFloat16": ml_dtypes.bfloat16,
        "Double": np.float64,
        "Long": np.int64,
        "Int": np.int32,
        "Short": np.int16,
        "Char": np.int8,
        "Byte": np.uint8,
        "Bool": np.bool_,
    }.items()
}


@dataclass(frozen=True)
class _Storage:
    """Bytes to be read later: `numel` values of `dtype`."""

    key: str
    dtype: np.dtype
    numel: int


@dataclass(frozen=True)
class _Tensor:
    """A view of a storage: item (i, j) is at offset + i * strides[0] + ..."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def span(self) -> int:
        """Bytes from the first value to the last."""
        steps = zip(self.shape, self.strides, strict=True)
        last = sum((n - 1) * step for n, step in steps)
        return (last + 1) * self.storage.dtype.itemsize if math.prod(self.shape) else 0


@dataclass(frozen=True)
class _Place:
    """Where the bytes of a storage are in the file; crc32 of them, None if unknown."""

    start: int
    length: int
    crc: int | None = None


def _rebuild_tensor(storage, offset, shape, strides, *_) -> _Tensor:
    if type(storage) is not _Storage or type(strides) is not tuple:
        raise ValueError("a tensor without a storage or strides")
    check_sizes((offset,))
    check_sizes(shape)
    for step in strides:
        check_sizes((step,))
    if len(shape) != len(strides):
        raise ValueError("a tensor with more or fewer strides than sides")
    last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    count = math.prod(shape)
    # Views that repeat values would let a small file grow to any size.
    if count and (last >= storage.numel or count > storage.numel):
        raise ValueError(f"a tensor reaches outside its storage {storage.key}")
    return _Tensor(storage, offset, shape, strides)


def _rebuild_parameter(data, *_) -> _Tensor:
    if type(data) is not _Tensor:
        raise ValueError("a parameter that is no tensor")
    return data


def _first(value: Any, *_) -> Any:
    """Lists of TorchScript: wrapped in a call that only tells their type."""
    return value


_LISTS = ("build_intlist", "build_doublelist", "build_boollist", "restore_type_tag")
_KNOWN: dict[str, Any] = _STORAGES | {
    **{f"torch.jit._pickle {name}": _first for name in _LISTS},
    "collections OrderedDict": dict,
    "_codecs encode": Inert,
    "torch._utils _rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils _rebuild_tensor": _rebuild_tensor,
    "torch._utils _rebuild_parameter": _rebuild_parameter,
    "torch._utils _rebuild_parameter_with_state": _rebuild_parameter,
}


def _known(name: str) -> Any:
    # A compiled TorchScript class of the file's own, represented by its attributes.
    return Inert if name.startswith(("__torch__.", "__torch__ ")) else _KNOWN.get(name)


class _Storages(dict):
    """Dtypes of all storages by key, noted as the pickle mentions them."""

    def __call__(self, identity: Any) -> Any:
        """A persistent id: ("storage", type, key, device, numel), legacy and a view.

        Legacy files of whole modules have ("module", class, file, source) too, which is
        the class.
        """
        if type(identity) is tuple and identity[:1] == ("module",):
            if len(identity) != 4 or type(identity[1]) is not Known:
                raise ValueError("a persistent id that is no class")
            return identity[1]
        if type(identity) is not tuple or len(identity) not in (5, 6):
            raise ValueError("a persistent id that is no storage")
        word, kind, key, _, numel, *view = identity
        if type(kind) is not Known or not isinstance(kind.value, np.dtype):
            raise ValueError("a storage of no known type")
        if type(word) is not str or word != "storage" or type(key) is not str:
            raise ValueError("a storage without a key")
        if view not in ([], [None]) or self.setdefault(key, kind.value) != kind.value:
            raise ValueError(f"storage {key} seen in two ways")
        check_sizes((numel,))
        return _Storage(key, kind.value, numel)


def open_torch(path: str | os.PathLike) -> dict[str, StoredTensor]:
    """Tensors of a state dict, by names joined with "."; half precision as float32.

    Nested dicts, lists, modules and TorchScript modules are flattened; values that are
    no tensors (epochs, flags) are left out.

    Raises UserError for a missing or damaged file, for one that calls any function but
    those that make tensors, and for a tensor that is not inside its storage.
    """
    path = Path(path)
    what = f"weights {path}"
    try:
        with path.open("rb") as file:
            is_zip = file.read(4) == b"PK\x03\x04"
            file.seek(0)
            return _open_zip(file, what) if is_zip else _open_legacy(file, what)
    except OSError as error:
        raise UserError(f"cannot read {what}: {error.strerror or error}") from error


def _open_zip(file: BinaryIO, what: str) -> dict[str, StoredTensor]:
    try:
        with zipfile.ZipFile(file) as archive:
            return _open_archive(archive, file, what)
    except (zipfile.BadZipFile, EOFError, RuntimeError, ValueError) as error:
        raise UserError(f"{what} refused: it is a damaged zip ({error})") from error


def _open_archive(archive: zipfile.ZipFile, file: BinaryIO, what: str):
    size = os.fstat(file.fileno()).st_size
    members = {info.filename: info for info in archive.infolist()}
    machine = PickleMachine(what, _known, _Storages())
    if len(members) != len(archive.infolist()):
        machine.refuse("it has two members of one name")
    roots = [name.removesuffix("data.pkl") for name in members]
    roots = [root for root in roots if root.count("/") == 1 and root.endswith("/")]
    if len(roots) != 1:
        machine.refuse("it is a zip, but has no data.pkl of PyTorch")

    def member(name: str, limit: int) -> zipfile.ZipInfo:
        info = members.get(roots[0] + name)
        if info is None:
            machine.refuse(f"its member {name} is missing")
        # PyTorch compresses no data, so a bomb has nowhere to hide.
        if info.compress_type != zipfile.ZIP_STORED or info.file_size > limit:
            machine.refuse(f"its member {name} is compressed or too large")
        return info

    if roots[0] + "byteorder" in members:
        if archive.read(member("byteorder", 16)) != b"little":
            machine.refuse("its numbers are big-endian")
    data = archive.read(member("data.pkl", _MAX_PICKLE))
    tree = machine.run(io.BytesIO(data))

    def place(key: str) -> _Place:
        info = member(f"data/{key}", size)
        # The lengths of name and extra field are in the local header alone.
        file.seek(info.header_offset + 26)
        lengths = file.read(4)
        start = info.header_offset + 30
        start += int.from_bytes(lengths[:2], "little")
        start += int.from_bytes(lengths[2:], "little")
        return _Place(start, info.file_size, info.CRC)

    return _tensors(tree, machine, place, file)


def _open_legacy(file: BinaryIO, what: str) -> dict[str, StoredTensor]:
    size = os.fstat(file.fileno()).st_size
    dtypes = _Storages()
    machine = PickleMachine(what, _known, dtypes)
    if machine.run(file) != _LEGACY_MAGIC or machine.run(file) != _LEGACY_PROTOCOL:
        machine.refuse("it is a pickle, but not one of PyTorch's")
    system = machine.run(file)
    if type(system) is not dict or system.get("little_endian") is not True:
        machine.refuse("its numbers are big-endian")
    tree, keys = machine.run(file), machine.run(file)
    if type(keys) is not list or any(type(key) is not str for key in keys):
        machine.refuse("its list of storages is damaged")
    places: dict[str, _Place] = {}
    for key in keys:
        # A count of values, then the values themselves.
        count = int.from_bytes(file.read(8), "little")
        length = count * dtypes[key].itemsize if key in dtypes else size
        if file.tell() + length > size:
            machine.refuse(f"storage {key} of {count} values is larger than the file")
        places[key] = _Place(file.tell(), length)
        file.seek(length, os.SEEK_CUR)

    def place(key: str) -> _Place:
        if key not in places:
            machine.refuse(f"storage {key} is missing")
        return places[key]

    return _tensors(tree, machine, place, file)


def _tensors(
    tree: Any, machine: PickleMachine, place: Callable[[str], _Place], file: BinaryIO
) -> dict[str, StoredTensor]:
    """All tensors of a tree; each storage is checked at the first use of it."""
    size = os.fstat(file.fileno()).st_size
    path, left, checked = Path(file.name), 8 * size, set[int]()
    place = functools.cache(place)

    def stored(leaf: Any) -> StoredTensor | None:
        nonlocal left
        if type(leaf) is not _Tensor:
            return None
        dtype, found = leaf.storage.dtype, place(leaf.storage.key)
        if found.length < leaf.storage.numel * dtype.itemsize:
            machine.refuse(
                f"storage {leaf.storage.key} says {leaf.storage.numel} values of "
                f"{dtype}, larger than its member of {found.length} bytes"
            )
        if found.start + found.length > size:
            machine.refuse(f"storage {leaf.storage.key} is larger than the file")
        # Tied weights share a storage; a thousand names for one are an attack.
        left -= max(leaf.span, math.prod(leaf.shape) * dtype.itemsize)
        if left < 0:
            machine.refuse("its tensors share storages too often")

        def read() -> np.ndarray:
            return _read(path, machine, leaf, found, checked)

        return StoredTensor(leaf.shape, widened(dtype), read)

    return flatten_arrays(tree, machine.what, stored, ".")


def _read(
    path: Path, machine: PickleMachine, leaf: _Tensor, place: _Place, checked: set[int]
) -> np.ndarray:
    """The values of a tensor, contiguous."""
    dtype = leaf.storage.dtype
    try:
        with path.open("rb") as file:
            if place.crc is not None and place.start not in checked:
                checked.add(place.start)
                if _crc(file, place) != place.crc:
                    machine.refuse(f"storage {leaf.storage.key} is damaged")
            file.seek(place.start + leaf.offset * dtype.itemsize)
            data = file.read(leaf.span)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    if len(data) < leaf.span:
        machine.refuse(f"storage {leaf.storage.key} is cut short")
    flat = np.frombuffer(data, dtype)
    steps = [step * dtype.itemsize for step in leaf.strides]
    view = np.lib.stride_tricks.as_strided(flat, leaf.shape, steps)
    return np.asarray(view, widened(dtype), order="C")


def _crc(file: BinaryIO, place: _Place) -> int:
    file.seek(place.start)
    crc, left = 0, place.length
    while left and (data := file.read(min(left, _CHUNK))):
        crc, left = zlib.crc32(data, crc), left - len(data)
    return crc
