"""The manifest of a data set: which files it has, and what is in them.

Every shard has a checksum of all its bytes, which `cogjax verify` compares, and a mark
of little of it, which is compared whenever the shard is opened.
"""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cogjax.config import section
from cogjax.data.aspects import Shape, of_names
from cogjax.errors import UserError
from cogjax.files import FolderKind, file_sha256, write_atomic

FORMAT = 2  # Format 1 had no marks.
_END = 1024  # bytes at both ends of a shard that are in its mark


@dataclass(frozen=True)
class Manifest:
    """The manifest of a data set folder.

    counts: examples of each split. checksums: sha256 of each shard file. fingerprint:
    sha256 over the checksums, the identity of the data. info: licences, skipped files.
    contents: how many examples of each style, captions of each language and questions
    of each kind a split has: {"train": {"style": {"noto": 9}, "captions": {"en": 5},
    "questions": {"count": 3}}}; of a set that is not all squares also of each shape,
    {"shape": {"48x96": 9}}, in pixels, or in codes of a set of codes. files: names of
    all other files in the folder. marks: what of each shard is compared whenever it is
    opened, as `mark` gives it; {} in sets of format 1, where only `cogjax verify` sees
    that shards have changed places.
    """

    kind: str
    image_size: int
    counts: dict[str, int]
    checksums: dict[str, str]
    fingerprint: str
    info: dict[str, Any] = field(default_factory=dict)
    contents: dict[str, dict[str, dict[str, int]]] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    marks: dict[str, str] = field(default_factory=dict)

    def __post_init__(self):
        names = [*self.checksums, *self.files]
        if any(name != Path(name).name for name in names):
            raise ValueError("it names files outside of its folder")
        if self.fingerprint != fingerprint(self.checksums):
            raise ValueError("its fingerprint is not that of its shards")
        shards = [name for split in self.counts for name in self.shards(split)]
        if sorted(shards) != sorted(self.checksums):
            raise ValueError("it has shards of splits that it does not count")
        _ = self.shapes  # ValueError for those that are none.
        if self.marks and self.marks.keys() != self.checksums.keys():
            raise ValueError("its marks are not of its shards")

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """(rows, columns) of its images, nearest to a square first; () of squares."""
        found = (counts.get("shape", ()) for counts in self.contents.values())
        return of_names(text for names in found for text in names)

    def shards(self, split: str) -> list[str]:
        """Names of the shards of a split, in order."""
        name = re.compile(re.escape(split) + r"-\d{5}-of-\d{5}\.arrayrecord")
        return sorted(filter(name.fullmatch, self.checksums))


def _files(fields: Mapping[str, Any]) -> list[str] | None:
    """Files that a manifest names; None if it is not one of cogjax."""
    if not {"format", "kind", "checksums", "fingerprint"} <= fields.keys():
        return None
    # Sets of emoji older than `files` have this one.
    others = ["LICENSES.md"] if fields["kind"] == "emoji" else []
    return [*fields["checksums"], *fields.get("files", others)]


DATA_SET = FolderKind("data set", "manifest.json", _files)


def write_manifest(folder: str | os.PathLike, manifest: Manifest) -> None:
    """Writes manifest.json; a folder without one is not yet a data set."""
    fields = {"format": FORMAT} | asdict(manifest)
    text = json.dumps(fields, indent=2, ensure_ascii=False)
    write_atomic(Path(folder) / "manifest.json", text + "\n")


def fingerprint(checksums: Mapping[str, str]) -> str:
    """The identity of a data set: sha256 over the checksums of its shards."""
    joined = "".join(f"{name}:{digest}\n" for name, digest in sorted(checksums.items()))
    return hashlib.sha256(joined.encode()).hexdigest()


def mark(path: Path) -> str:
    """What tells a shard from others at the cost of a look: size and sha256 of ends."""
    with path.open("rb") as file:
        first = file.read(_END)
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _END))
        ends = hashlib.sha256(first + file.read(_END))
    return f"{size}:{ends.hexdigest()}"


def damaged_shards(folder: str | os.PathLike) -> list[str]:
    """Names of the shards that are missing or differ from the manifest's checksums."""
    checksums = read_manifest(folder).checksums
    faults = {
        name: fault_of(Path(folder) / name, checksums[name]) for name in checksums
    }
    return [name for name, fault in faults.items() if fault]


def verify(folder: str | os.PathLike) -> dict[str, str]:
    """The fault of each file of a data set in words, "" for a good one.

    Reads all of it. UserError if the manifest cannot be read.
    """
    manifest, folder = read_manifest(folder), Path(folder)
    faults = {n: fault_of(folder / n, sha) for n, sha in manifest.checksums.items()}
    for name in manifest.files:
        faults[name] = "" if (folder / name).is_file() else "is missing"
    return faults


def fault_of(path: Path, sha256: str) -> str:
    """What is wrong with a file that had this sha256, in words; "" for nothing."""
    try:
        return "" if file_sha256(path) == sha256 else "has changed, or is another file"
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"


def read_manifest(folder: str | os.PathLike) -> Manifest:
    """Reads manifest.json; UserError if the folder is no data set of this format."""
    path = Path(folder) / "manifest.json"
    try:
        fields = json.loads(path.read_bytes())
        known = fields if isinstance(fields, dict) else {}
        if "unfinished" in known:
            raise UserError(f"{folder} is only half written: build the data set again")
        version = known.pop("format", None)
        if version is None:
            raise UserError(f"{path} is not of a data set of cogjax")
        if type(version) is not int or version not in (1, FORMAT):
            raise UserError(f"{path} is of another format: build the data set again")
        if version == FORMAT and not fields.get("marks"):
            raise UserError(f"{path} has no marks: build the data set again")
        return _manifest_of(path, fields)
    except FileNotFoundError as error:
        raise UserError(
            f"{folder} is not a data set (no manifest.json): build one with "
            f"`cogjax data emoji` or `cogjax data folder`"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    except RecursionError as error:
        raise UserError(f"{path} cannot be read: it nests too deep") from error


def _manifest_of(path: Path, fields: Mapping[str, Any]) -> Manifest:
    try:
        return section(Manifest, fields)
    except UserError as error:
        raise UserError(f"{path} cannot be read: {error}") from error
