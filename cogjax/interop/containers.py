"""Files of weights, whatever they are called: the first bytes tell what one is."""

import os
from pathlib import Path

from cogjax.errors import UserError
from cogjax.interop.flax_files import is_flax, open_flax
from cogjax.interop.pickles import read_array_pickle
from cogjax.interop.safetensors import guess, open_safetensors
from cogjax.interop.stored import StoredTensor, of_array
from cogjax.interop.torch_files import LEGACY_START, open_torch


def open_tensors(path: str | os.PathLike) -> dict[str, StoredTensor]:
    """Tensors of a file of PyTorch, safetensors, Flax or a pickle of NumPy arrays.

    Raises UserError for a file that is missing, damaged, or none of these.
    """
    path = Path(path)
    kind = kind_of_file(path)
    if kind == "safetensors":
        return open_safetensors(path)
    if kind == "pickle":
        return {name: of_array(x) for name, x in read_array_pickle(path).items()}
    if kind == "torch":
        return open_torch(path)
    if kind == "flax":
        return open_flax(path)
    raise UserError(f"weights {path} are of no known kind of file{guess(path)}")


def kind_of_file(path: Path) -> str:
    """ "torch", "safetensors", "pickle", "flax", or "" for another.

    UserError if it is unreadable.
    """
    head = head_of(path)
    if head.startswith((b"PK\x03\x04", LEGACY_START)):
        return "torch"
    if head.startswith(b"\x80"):
        return "pickle"
    if is_flax(head):
        return "flax"
    # The length of a header, below 2^32, and its first brace.
    is_safetensors = head[4:9] == bytes(4) + b"{"
    return "safetensors" if is_safetensors else ""


def head_of(path: Path) -> bytes:
    """The first 64 bytes, which tell what a file is; UserError if unreadable."""
    try:
        with path.open("rb") as file:
            return file.read(64)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
