"""Tensors of PyTorch's .pt and .pth files, read without torch and without pickle.

There are three containers; in each a pickle lists the tensors:

- zip (torch >= 1.6): `NAME/data.pkl`, the bytes of storage K in `NAME/data/K`;
- TorchScript, such as OpenAI's CLIP: the same, the tensors as attributes of objects;
- legacy (torch < 1.6): five pickles in a row, then the storages.

`interop/pickles.py` makes the pickles harmless.
"""

import functools
import io
import math
import os
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

from cogjax.errors import UserError
from cogjax.interop.pickles import (
    Known,
    Module,
    PickleMachine,
    check_sizes,
    flatten_arrays,
)

# Structure only: the largest network here needs 100 kB.
_MAX_PICKLE = 1 << 26
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001

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

_WIDER = {np.dtype(name): np.dtype(np.float32) for name in ("float16", "bfloat16")}


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
    "torch._utils _rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils _rebuild_parameter": _rebuild_parameter,
}


def _known(name: str) -> Any:
    # A compiled TorchScript class of the file's own, represented by its attributes.
    return Module if name.startswith(("__torch__.", "__torch__ ")) else _KNOWN.get(name)


class _Storages(dict):
    """Dtypes of all storages by key, noted as the pickle mentions them."""

    def __call__(self, identity: Any) -> _Storage:
        """A persistent id: ("storage", type, key, device, numel), legacy and a view."""
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


def read_torch(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Tensors of a state dict, by names joined with "."; half precision as float32.

    Nested dicts and TorchScript modules are flattened; values that are no tensors
    (epochs, flags) are left out.

    Raises UserError for a missing or damaged file, and for one that asks for any name
    but those of tensors, or for a tensor that is not inside its storage.
    """
    path = Path(path)
    what = f"weights {path}"
    try:
        with path.open("rb") as file:
            is_zip = file.read(4) == b"PK\x03\x04"
            file.seek(0)
            return _read_zip(file, what) if is_zip else _read_legacy(file, what)
    except OSError as error:
        raise UserError(f"cannot read {what}: {error.strerror or error}") from error


def _read_zip(file: BinaryIO, what: str) -> dict[str, np.ndarray]:
    try:
        with zipfile.ZipFile(file) as archive:
            return _read_archive(archive, what, os.fstat(file.fileno()).st_size)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise UserError(f"{what} refused: it is a damaged zip ({error})") from error


def _read_archive(archive: zipfile.ZipFile, what: str, size: int):
    members = {info.filename: info for info in archive.infolist()}
    machine = PickleMachine(what, _known, _Storages())
    if len(members) != len(archive.infolist()):
        machine.refuse("it has two members of one name")
    roots = [name.removesuffix("data.pkl") for name in members]
    roots = [root for root in roots if root.count("/") == 1 and root.endswith("/")]
    if len(roots) != 1:
        machine.refuse("it is a zip, but has no data.pkl of PyTorch")

    def read(name: str, limit: int) -> bytes:
        info = members.get(roots[0] + name)
        if info is None:
            machine.refuse(f"its member {name} is missing")
        # PyTorch compresses no data, so a bomb has nowhere to hide.
        if info.compress_type != zipfile.ZIP_STORED or info.file_size > limit:
            machine.refuse(f"its member {name} is compressed or too large")
        return archive.read(info)

    if roots[0] + "byteorder" in members and read("byteorder", 16) != b"little":
        machine.refuse("its numbers are big-endian")
    tree = machine.run(io.BytesIO(read("data.pkl", _MAX_PICKLE)))
    return _tensors(tree, machine, lambda key: read(f"data/{key}", size), size)


def _read_legacy(file: BinaryIO, what: str) -> dict[str, np.ndarray]:
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
    places: dict[str, tuple[int, int]] = {}
    for key in keys:
        # A count of values, then the values themselves.
        count = int.from_bytes(file.read(8), "little")
        length = count * dtypes[key].itemsize if key in dtypes else size
        if file.tell() + length > size:
            machine.refuse(f"storage {key} of {count} values is larger than the file")
        places[key] = file.tell(), length
        file.seek(length, os.SEEK_CUR)

    def read(key: str) -> bytes:
        if key not in places:
            machine.refuse(f"storage {key} is missing")
        file.seek(places[key][0])
        return file.read(places[key][1])

    return _tensors(tree, machine, read, size)


def _tensors(
    tree: Any, machine: PickleMachine, read: Callable[[str], bytes], size: int
) -> dict[str, np.ndarray]:
    """All tensors of a tree as arrays of their own; each storage is read once."""
    read = functools.cache(read)
    left = 8 * size

    def array(leaf: Any) -> np.ndarray | None:
        nonlocal left
        if type(leaf) is not _Tensor:
            return None
        dtype, data = leaf.storage.dtype, read(leaf.storage.key)
        if len(data) < leaf.storage.numel * dtype.itemsize:
            machine.refuse(
                f"storage {leaf.storage.key} says {leaf.storage.numel} values of "
                f"{dtype}, larger than its member of {len(data)} bytes"
            )
        # Tied weights share a storage; a thousand names for one are an attack.
        left -= math.prod(leaf.shape) * dtype.itemsize
        if left < 0:
            machine.refuse("its tensors share storages too often")
        flat = np.frombuffer(data, dtype, leaf.storage.numel)[leaf.offset :]
        steps = [step * dtype.itemsize for step in leaf.strides]
        view = np.lib.stride_tricks.as_strided(flat, leaf.shape, steps)
        return np.array(view, _WIDER.get(dtype, dtype), order="C")

    return flatten_arrays(tree, machine.what, array, ".")
