"""Files that appear whole or not at all, and paths that can be written to."""

import contextlib
import os
import re
import uuid
from pathlib import Path

from cogjax.errors import UserError


def write_atomic(path: str | os.PathLike, data: bytes | str) -> Path:
    """Writes `data` (text as UTF-8) under `path` through a temporary neighbour.

    Parent folders are made. A crash leaves the old file or the new one, never a part.
    Raises UserError naming the path when the system refuses.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    return path


def check_folder(path: str | os.PathLike) -> Path:
    """Returns `path` if a folder exists or can be made there; UserError otherwise.

    Makes nothing: a command asks before long work and writes after it.
    """
    if re.match("[a-z][a-z0-9]+://", str(path)):
        # Path would make a local folder "gs:" of it, without a word.
        raise UserError(
            f"cannot write to {path}: buckets are reached through a mounted folder, "
            f"such as by gcsfuse (docs/running.md)"
        )
    path = Path(path)
    existing = path.absolute()
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir():
        raise UserError(f"cannot write to {path}: {existing} is not a folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise UserError(f"cannot write to {path}: no permission in {existing}")
    return path


def check_folder_for(path: str | os.PathLike) -> Path:
    """As `check_folder`, for the folder that will hold the file `path`."""
    path = Path(path)
    if path.is_dir():
        raise UserError(f"cannot write {path}: it is a folder, a file name is expected")
    check_folder(path.parent)
    return path
