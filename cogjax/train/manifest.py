"""Digests of a checkpoint: a CRC-32 of every file, checked before it is restored.

Orbax writes a step under another name and renames it when it is whole, but does not
notice bytes that change later. Each process of a run digests its share of the files of
a committed step and writes `digests-I-of-N.json` into the step's folder.
"""

import json
import os
import zlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cogjax.errors import UserError
from cogjax.files import write_atomic

FORMAT = 1
_CHUNK = 2**22
_THREADS = 4


@dataclass(frozen=True)
class Verdict:
    """Whether a step is good, bad, or unverified (without digests), and why."""

    step: int
    status: Literal["good", "bad", "unverified"]
    reason: str = ""

    def __str__(self) -> str:
        return f"step {self.step}: {self.status}" + (
            f", {self.reason}" if self.reason else ""
        )


def write_digests(folder: Path, index: int = 0, count: int = 1) -> Path:
    """Digests every `count`-th file of a step from the `index`-th on.

    Raises UserError if the system refuses the file, OSError if one cannot be read.
    """
    names = sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith((".", "digests-"))
    )[index::count]
    body = {
        "format": FORMAT,
        # So that a step under the name of another is noticed.
        "step": int(folder.name),
        "part": [index, count],
        "files": dict(zip(names, _map(_digest, folder, names), strict=True)),
    }
    sealed = {**body, "crc32": _seal(body)}
    path = folder / f"digests-{index}-of-{count}.json"
    return write_atomic(path, json.dumps(sealed, indent=1) + "\n")


def verify_step(folder: Path, index: int = 0, count: int = 1) -> Verdict:
    """Reads every `count`-th file that the digests of a step name, and compares.

    A step that is empty, or of which the digests name another, is bad too.
    """
    step = int(folder.name)
    paths = sorted(folder.glob("digests-*-of-*.json"))
    try:
        parts = [_read(path) for path in paths]
    except (OSError, ValueError, KeyError, TypeError) as error:
        return Verdict(step, "bad", f"{error}")
    for part in parts:
        if part.get("step", step) != step:  # Digests of before name none.
            return Verdict(step, "bad", f"it is step {part['step']} under another name")
    files = {name: digest for part in parts for name, digest in part["files"].items()}
    names = sorted(files)[index::count]
    for name, found in zip(names, _map(_compare, folder, names, files), strict=True):
        if found:
            return Verdict(step, "bad", f"{name} {found}")
    if not any(path.is_file() for path in folder.rglob("*")):
        return Verdict(step, "bad", "it is empty")
    if len(parts) != (parts[0]["part"][1] if parts else -1):
        # The run was killed between commit and digests, or is older than digests.
        return Verdict(step, "unverified", "digests are missing")
    return Verdict(step, "good")


def verify_run(folder: str | os.PathLike) -> list[Verdict]:
    """Verdict of every committed step of a run or checkpoints folder, oldest first.

    UserError if the folder holds no checkpoint.
    """
    folder = Path(folder)
    if (folder / "checkpoints").is_dir():
        folder = folder / "checkpoints"
    verdicts = [verify_step(folder / str(step)) for step in steps(folder)]
    if not verdicts:
        raise UserError(
            f"{folder} holds no checkpoint: give a workdir or its checkpoints folder"
        )
    return verdicts


def steps(folder: Path) -> list[int]:
    """The committed steps of a checkpoints folder, oldest first."""
    if not folder.is_dir():
        return []
    return sorted(
        int(path.name)
        for path in folder.iterdir()
        if path.name.isdecimal() and path.is_dir()
    )


def _read(path: Path) -> dict:
    """The part in `path`; ValueError naming it unless it is as it was written."""
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
        sealed = body.pop("crc32") == _seal(body)
        sealed &= all(len(found) == 2 for found in body["files"].values())
        sealed &= len(body["part"]) == 2
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        sealed = False
    if not sealed:
        raise ValueError(f"{path.name} is damaged")
    return body


def _seal(body: dict) -> int:
    return zlib.crc32(json.dumps(body, sort_keys=True).encode())


def _map(function, folder: Path, names: list[str], *more) -> Iterable:
    """In threads: the system reads ahead while CRC-32 runs without the Python lock."""
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(lambda name: function(folder, name, *more), names))


def _digest(folder: Path, name: str) -> list[int]:
    """[bytes, CRC-32] of a file."""
    size = crc = 0
    with (folder / name).open("rb") as file:
        while chunk := file.read(_CHUNK):
            size, crc = size + len(chunk), zlib.crc32(chunk, crc)
    return [size, crc]


def _compare(folder: Path, name: str, files: dict) -> str:
    """The fault of a file in words, empty for none."""
    try:
        size, crc = _digest(folder, name)
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"
    wanted_size, wanted_crc = files[name]
    if size != wanted_size:
        return f"has {size} bytes instead of {wanted_size}"
    return "" if crc == wanted_crc else "has changed"
