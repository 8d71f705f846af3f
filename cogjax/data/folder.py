"""Your own pictures and captions to a data set.

Sources, alone or mixed in one folder:

    cat.jpg + cat.txt           every line of the text is a caption
    metadata.jsonl              {"file_name": "cat.jpg", "text": "a cat"} a line
    *.csv                       columns file and caption (or similar names)
    *.tar                       members 0001.jpg + 0001.txt or 0001.json (webdataset)
"""

import csv
import io
import json
import os
import tarfile
import unicodedata
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from cogjax.data.images import decode_image, encode_png
from cogjax.data.records import DatasetBuilder, Example, Manifest
from cogjax.errors import UserError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
FILE_KEYS = ("file_name", "file", "image", "path", "filename")
TEXT_KEYS = ("text", "caption", "captions", "prompt", "description")
MAX_CAPTION = 2000
MAX_BYTES = 128 << 20
MAX_MEMBERS = 1_000_000


@dataclass(frozen=True)
class Entry:
    """One picture that may be broken: both readers raise UserError with a reason."""

    name: str
    read_image: Callable[[], bytes]
    read_captions: Callable[[], list[str]]


@dataclass(frozen=True)
class ImportReport:
    """skipped: (name, reason) of every broken entry."""

    manifest: Manifest
    skipped: list[tuple[str, str]]


def import_folder(
    source: str | os.PathLike,
    out: str | os.PathLike,
    *,
    size: int = 256,
    budget: float = 0.05,
    val_fraction: float = 0.02,
    progress: Callable[[int, int, str], None] | None = None,
) -> ImportReport:
    """Writes splits train and val of all usable pictures, resized and centre-cropped.

    A broken entry is skipped with its reason while the skipped stay within `budget`, a
    share of all entries. The split follows a hash of the name.

    Raises:
      UserError: nothing to import, or more broken entries than the budget allows,
        naming the first ones. Nothing is left at `out` then.
    """
    progress = progress or (lambda done, total, label: None)
    builder = DatasetBuilder(out, "folder", size, {"train": 4, "val": 1})
    entries = list(list_entries(Path(source)))
    if not entries:
        raise UserError(
            f"{source} has no captioned pictures: expected pictures with .txt files, "
            f"metadata.jsonl, a CSV or .tar shards"
        )
    skipped: list[tuple[str, str]] = []
    with builder:
        for index, entry in enumerate(entries):
            if index % 32 == 0:
                progress(index, len(entries), "importing")
            try:
                example = _read(entry, size)
            except UserError as error:
                skipped.append((entry.name, str(error)))
                _check_budget(skipped, budget, len(entries))
                continue
            held_out = zlib.crc32(entry.name.encode("utf-8", "replace"))
            split = "val" if held_out < val_fraction * 2**32 else "train"
            builder.write(split, example)
        progress(len(entries), len(entries), "importing")
        listed = [list(pair) for pair in skipped[:1000]]
        info = {"skipped": listed, "num_skipped": len(skipped)}
        manifest = builder.finish(info)
    return ImportReport(manifest, skipped)


def list_entries(source: Path) -> Iterator[Entry]:
    """Finds the pictures of a folder, a .tar, a .csv or a .jsonl, in a fixed order."""
    if source.is_dir():
        yield from _folder_entries(source)
    elif source.suffix == ".tar" and source.is_file():
        yield from _tar_entries(source)
    elif source.suffix in (".csv", ".jsonl") and source.is_file():
        yield from _table_entries(source)
    else:
        raise UserError(f"{source} is no folder, .tar, .csv or .jsonl file")


def clean_caption(text: str) -> str:
    """Control and unassigned characters become spaces; at most 2,000 characters."""
    kept = "".join(
        " " if unicodedata.category(c) in ("Cc", "Cs", "Cn", "Co") else c
        for c in text[: 4 * MAX_CAPTION]
    )
    return " ".join(kept.split())[:MAX_CAPTION]


def _read(entry: Entry, size: int) -> Example:
    texts = [text for text in map(clean_caption, entry.read_captions()) if text]
    if not texts:
        raise UserError("no caption")
    pixels = decode_image(entry.read_image(), size)
    captions = tuple(("", text) for text in texts)
    return Example(entry.name, encode_png(pixels), captions)


def _check_budget(skipped, budget: float, total: int) -> None:
    if len(skipped) <= budget * total:
        return
    first = "; ".join(f"{name}: {reason}" for name, reason in skipped[:3])
    raise UserError(
        f"{len(skipped)} of {total} entries are broken, over the budget of "
        f"{budget:.1%}: {first}"
    )


def _folder_entries(folder: Path) -> Iterator[Entry]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    tables = [p for p in files if p.suffix == ".csv" or p.name == "metadata.jsonl"]
    listed = set()
    for table in tables:
        for entry in _table_entries(table):
            listed.add((table.parent / entry.name).resolve())
            yield entry
    for path in files:
        if path.suffix == ".tar":
            yield from _tar_entries(path)
        elif path.suffix.lower() in IMAGE_SUFFIXES and path.resolve() not in listed:
            name = path.relative_to(folder).as_posix()
            text = path.with_suffix(".txt")
            yield Entry(name, _file_reader(path), _text_reader(text))


def _file_reader(path: Path) -> Callable[[], bytes]:
    def read() -> bytes:
        try:
            if path.stat().st_size > MAX_BYTES:
                raise UserError(f"larger than {MAX_BYTES} bytes")
            return path.read_bytes()
        except OSError as error:
            raise UserError(f"cannot be read: {error.strerror}") from error

    return read


def _text_reader(path: Path) -> Callable[[], list[str]]:
    def read() -> list[str]:
        if not path.is_file():
            raise UserError(f"no caption file {path.name}")
        return _lines(_file_reader(path)())

    return read


def _lines(data: bytes) -> list[str]:
    try:
        return data.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UserError("the caption is not UTF-8") from error


def _table_entries(table: Path) -> Iterator[Entry]:
    """Rows of a CSV or JSON-lines file; file names are relative to its folder."""
    root = table.parent.resolve()
    for number, row in enumerate(_rows(table), 1):
        name = _field(row, FILE_KEYS)
        if not isinstance(name, str) or not name:
            yield _broken(f"{table.name}:{number}", "names no file")
            continue
        path = (root / name).resolve()
        if not path.is_relative_to(root):
            yield _broken(name, f"is outside {table.parent}")
            continue
        captions = _texts(_field(row, TEXT_KEYS))
        yield Entry(name, _file_reader(path), lambda captions=captions: captions)


def _rows(table: Path) -> Iterator[dict]:
    lines = _lines(_file_reader(table)())
    if table.suffix == ".csv":
        yield from csv.DictReader(io.StringIO("\n".join(lines)))
        return
    for line in filter(str.strip, lines):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        yield row if isinstance(row, dict) else {}


def _field(row: dict, keys: tuple[str, ...]):
    found = [row[key] for key in keys if row.get(key)]
    return found[0] if found else None


def _texts(value) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [text for text in values if isinstance(text, str)]


def _broken(name: str, reason: str) -> Entry:
    def fail():
        raise UserError(reason)

    return Entry(name, fail, fail)


def _tar_entries(path: Path) -> Iterator[Entry]:
    """Groups members by name without suffix; nothing is ever unpacked to disk."""
    groups: dict[str, dict[str, tarfile.TarInfo]] = {}
    try:
        with tarfile.open(path, "r:") as archive:
            for count, member in enumerate(archive):
                if count >= MAX_MEMBERS:
                    raise UserError(f"{path} has more than {MAX_MEMBERS} members")
                # Links, devices and folders hold no picture.
                if member.isfile():
                    name = PurePosixPath(member.name)
                    key = str(name.with_suffix(""))
                    groups.setdefault(key, {})[name.suffix.lower()] = member
    except (tarfile.TarError, OSError, EOFError) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    for key, members in sorted(groups.items()):
        images = [members[s] for s in IMAGE_SUFFIXES if s in members]
        name = f"{path.name}/{key}"
        if not images:
            yield _broken(name, "no picture among its members")
            continue
        yield Entry(
            name,
            _member_reader(path, images[0]),
            lambda members=members: _member_captions(path, members),
        )


def _member_reader(path: Path, member: tarfile.TarInfo):
    """Reads a member where it lies in the plain archive, which need not stay open."""

    def read() -> bytes:
        if member.size > MAX_BYTES:
            raise UserError(f"larger than {MAX_BYTES} bytes")
        try:
            with path.open("rb") as file:
                file.seek(member.offset_data)
                return file.read(member.size)
        except OSError as error:
            raise UserError(f"cannot be read: {error.strerror}") from error

    return read


def _member_captions(path: Path, members) -> list[str]:
    if ".txt" in members:
        return _lines(_member_reader(path, members[".txt"])())
    if ".json" in members:
        data = _member_reader(path, members[".json"])()
        try:
            row = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise UserError("its .json is not JSON") from error
        return _texts(_field(row, TEXT_KEYS)) if isinstance(row, dict) else []
    raise UserError("no .txt or .json beside it")
