"""Files that appear whole or not at all, and folders that can be written to.

A folder that a command fills is of a kind, such as a data set. It is recognised by one
JSON file, its head, which is written last and names the others. While files are moved
in, the head says so instead: `{"cogjax": "data set", "unfinished": [names]}`.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
import unicodedata
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cogjax.errors import UserError, shown

_MAX_SLUG_BYTES = 120


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


def once(path: Path, make: Callable[[], Any]) -> Any:
    """The JSON value in a file: that of `make`, if the file is not there."""
    if not path.exists():
        write_atomic(path, json.dumps(make()) + "\n")
    return json.loads(path.read_text())


def write_new(path: str | os.PathLike, data: bytes | str) -> bool:
    """As `write_atomic`, but False, with nothing written, if `path` is taken.

    One of several processes that write it at once succeeds.
    """
    path, data = Path(path), data.encode() if isinstance(data, str) else data
    if os.path.lexists(path):
        return False
    temporary = write_atomic(path.with_name(f".{uuid.uuid4().hex}.tmp"), data)
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError:
        return _create(path, data)  # A file system without hard links.
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    return True


def _create(path: Path, data: bytes) -> bool:
    try:
        with path.open("xb") as file:
            file.write(data)
    except FileExistsError:
        return False
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    return True


def check_folder(path: str | os.PathLike) -> Path:
    """Returns `path` if a folder exists or can be made there; UserError otherwise.

    Makes nothing: a command asks before long work and writes after it.
    """
    name, path = path, _path(path)
    if re.match("[a-z][a-z0-9]+:/", str(name)):
        # Path makes "gs:/b" of "gs://b": a local folder "gs:", without a word.
        raise UserError(
            f"cannot write to {name}: buckets are reached through a mounted folder, "
            f"such as by gcsfuse (docs/running.md)"
        )
    try:
        str(path).encode()
    except UnicodeEncodeError:  # The libraries that write records take UTF-8 alone.
        raise UserError(
            f"cannot write to {path}: its name is not valid UTF-8"
        ) from None
    existing = path.absolute()
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir():
        raise UserError(f"cannot write to {path}: {existing} is not a folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise UserError(f"cannot write to {path}: no permission in {existing}")
    return path


def check_file(path: str | os.PathLike, overwrite: bool) -> Path:
    """As `check_folder`, for a file that a user names; `write_file` writes it.

    UserError if it is there, unless `overwrite`.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f"cannot write {path}: it is a folder, a file name is expected")
    if not overwrite and os.path.lexists(path):
        raise _taken(path)
    check_folder(path.parent)
    return path


def write_file(path: str | os.PathLike, data: bytes | str, overwrite: bool) -> None:
    """Writes a file that a user named; UserError if it is there, unless `overwrite`."""
    if overwrite:
        write_atomic(path, data)
    elif not write_new(path, data):
        raise _taken(path)


def _taken(path: str | os.PathLike) -> UserError:
    return UserError(
        f"{path} is there already: choose another name, or give --overwrite to "
        "replace it"
    )


def slug(prompt: str) -> str:
    """Returns a file name of the prompt's letters, marks and digits in any script.

    Everything else becomes one "-"; at most 120 bytes of UTF-8; never empty.
    """
    text = unicodedata.normalize("NFKC", prompt).lower()
    letters = "".join(c if unicodedata.category(c)[0] in "LMN" else " " for c in text)
    name = "-".join(letters.split()).encode()[:_MAX_SLUG_BYTES]
    return name.decode("utf-8", "ignore").strip("-") or "image"


def write_numbered(
    folder: Path, stem: str, suffix: str, data: bytes | str, first: int = 0
) -> Path:
    """Writes to the first free name of stem, stem-2, ... (first=1: stem-1, ...).

    Processes that write into one folder at once never take the same.
    """
    path = folder / (f"{stem}-{first}{suffix}" if first else f"{stem}{suffix}")
    index = max(first, 1)
    while not write_new(path, data):
        index += 1
        path = folder / f"{stem}-{index}{suffix}"
    return path


@dataclass(frozen=True)
class FolderKind:
    """The name of a kind of folder, and how one is recognised.

    head: name of its JSON file. files: makes the names of the others from that file's
    fields, or None if the file is not ours.
    """

    what: str
    head: str
    files: Callable[[dict[str, Any]], Iterable[str] | None]

    def owned(self, folder: Path) -> set[str] | None:
        """Names of its files, the head among them; None if it is not of this kind."""
        try:
            fields = json.loads((folder / self.head).read_bytes())
            names = fields.get("unfinished") if self._mark(fields) else None
            names = self.files(fields) if names is None else names
            if names is None:
                return None
            # A head that was tampered with must not name files elsewhere.
            return {self.head} | {name for name in names if name == Path(name).name}
        except (OSError, ValueError, AttributeError, TypeError, RecursionError):
            return None

    def check(self, out: str | os.PathLike, overwrite: bool) -> Path:
        """Returns `out` if it can be filled; UserError otherwise.

        It must be new, hold nothing but hidden files, or, with `overwrite`, be of this
        kind.
        """
        out = check_folder(out)
        if not out.is_dir() or all(name.startswith(".") for name in os.listdir(out)):
            return out
        if self.owned(out) is None:
            raise UserError(
                f"{out} is not empty and not a {self.what} of cogjax: choose another "
                f"folder"
            )
        if not overwrite:
            raise UserError(
                f"{out} holds a {self.what}: choose another folder, or give "
                f"--overwrite to replace it"
            )
        return out

    def publish(self, partial: Path, out: Path, overwrite: bool) -> None:
        """Moves the files of `partial` to `out`, the head last.

        Files of the replaced folder go if no new one has their name; all other files
        stay. UserError as from `check`, or if a foreign file is in the way of a new
        one; then nothing is changed.
        """
        new = set(os.listdir(partial))
        self.check(out, overwrite)
        old = self.owned(out) or set()
        for name in sorted(new - old):
            if os.path.lexists(out / name):
                raise UserError(
                    f"{out / name} is not of the {self.what} in its folder: move it "
                    f"away, or choose another folder"
                )
        mark = json.dumps({"cogjax": self.what, "unfinished": sorted(old | new)})
        if old or not write_new(out / self.head, mark):
            self.check(out, overwrite)  # Another process may have been faster.
            write_atomic(out / self.head, mark)
        try:
            for name in old - new:
                (out / name).unlink(missing_ok=True)
            for name in sorted(new, key=lambda name: name == self.head):
                os.replace(partial / name, out / name)
        except OSError as error:
            raise UserError(f"cannot write {out}: {error.strerror or error}") from error

    def _mark(self, fields: dict[str, Any]) -> bool:
        return fields.get("cogjax") == self.what


@contextlib.contextmanager
def partial_folder(out: Path) -> Iterator[Path]:
    """A hidden folder in `out` to fill; removed afterwards, as is `out` if empty.

    What killed processes have left of theirs there is removed first.
    """
    made = not out.exists()
    partial = out / f".{uuid.uuid4().hex[:8]}.partial"
    lock = partial.with_suffix(".lock")
    held = contextlib.ExitStack()
    try:
        try:
            out.mkdir(parents=True, exist_ok=True)
            _remove_abandoned(out)
            # Locked before there is a folder that another process could find.
            _take(held.enter_context(lock.open("w")))
            partial.mkdir()
        except OSError as error:
            raise UserError(f"cannot write {out}: {error.strerror}") from error
        yield partial
    finally:
        held.close()
        shutil.rmtree(partial, ignore_errors=True)
        with contextlib.suppress(OSError):
            lock.unlink(missing_ok=True)
            if made:
                out.rmdir()


def _remove_abandoned(out: Path) -> None:
    """Partial folders whose lock is free: the system frees that of a dead process."""
    for lock in out.glob(".*.lock"):
        partial = lock.with_suffix(".partial")
        with contextlib.suppress(OSError), lock.open("r+") as file:
            if partial.is_dir() and _take(file):
                shutil.rmtree(partial, ignore_errors=True)
                lock.unlink(missing_ok=True)


def _take(file: Any) -> bool:
    """Whether the lock of an open file is taken now; some systems have none."""
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (ImportError, OSError):
        return False
    return True


def check_apart(out: str | os.PathLike, source: str | os.PathLike) -> None:
    """UserError if the folder `out` is the source, or holds it."""
    if Path(source).resolve().is_relative_to(_path(out).resolve()):
        raise UserError(
            f"{out} is or holds {source}, the source: choose another folder"
        )


def check_outside(out: str | os.PathLike, source: str | os.PathLike) -> None:
    """As `check_apart`, and for a folder `out` within the source."""
    check_apart(out, source)
    if Path(out).resolve().is_relative_to(Path(source).resolve()):
        raise UserError(f"{out} is in {source}, the source: choose another folder")


def file_sha256(path: Path) -> str:
    """sha256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _path(name: str | os.PathLike) -> Path:
    """UserError for a name that Python code gave and that is none."""
    if not isinstance(name, str | os.PathLike):
        raise UserError(f"the output is {shown(name)}, expected the name of a folder")
    return Path(name)
