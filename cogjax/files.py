"""Files that appear whole or not at all, and paths that can be written to."""

import os
import uuid
from pathlib import Path

from cogjax.errors import UserError


def write_atomic(path: str | os.PathLike, data: bytes | str) -> Path:
    """Writes `data` (text as UTF-8) under `path` through a temporary neighbour.

    Parent folders are made. A crash leaves the old file or the new one, never a part.
    Raises UserError naming the path when the system refuses.
    """
    path = Path(path)
    temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)
    return path
