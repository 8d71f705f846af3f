"""Finds images and their captions in folders, tables and archives.

Files are not trusted: a broken entry raises UserError with its reason when it is read,
names stay inside the folder of their table, and archives are never unpacked.
"""

import csv
import io
import json
import os
import posixpath
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cogjax.errors import UserError

# Formats that cannot be read are listed too, so that they are reported, not missed.
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
IMAGE_SUFFIXES += (".svg",)
FILE_KEYS = ("file_name", "file", "image", "path", "filename")
TEXT_KEYS = ("text", "caption", "captions", "prompt", "description")
MAX_BYTES = 128 << 20
MAX_TABLE_BYTES = 1 << 30
MAX_MEMBERS = 1_000_000


@dataclass(frozen=True)
class Entry:
    """One image that may be broken: both readers raise UserError with a reason.

    source: where it is from, as the column `source` of its table says.
    """

    name: str
    read_image: Callable[[], bytes]
    read_captions: Callable[[], list[str]]
    path: Path | None = None
    source: str = ""


def list_entries(
    source: Path, text_keys: tuple[str, ...] = TEXT_KEYS
) -> Iterator[Entry]:
    """Yields the images of a folder, .tar, .csv or .jsonl, in a fixed order.

    text_keys: names of the field that holds the captions in tables and .json members.
    """
    if source.is_dir():
        yield from _folder_entries(source, text_keys)
    elif source.suffix == ".tar" and source.is_file():
        yield from _tar_entries(source, text_keys)
    elif source.suffix in (".csv", ".jsonl") and source.is_file():
        yield from _table_entries(source, source.parent, text_keys)
    else:
        raise UserError(f"{source} is no folder, .tar, .csv or .jsonl file")


def _folder_entries(folder: Path, text_keys) -> Iterator[Entry]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    tables = [p for p in files if p.suffix == ".csv" or p.name == "metadata.jsonl"]
    listed = set()
    for table in tables:
        for entry in _table_entries(table, folder, text_keys):
            listed.add(entry.path)
            yield entry
    for path in files:
        if path.suffix == ".tar":
            yield from _tar_entries(path, text_keys)
        elif path.suffix.lower() in IMAGE_SUFFIXES and path.resolve() not in listed:
            name = path.relative_to(folder).as_posix()
            text = path.with_suffix(".txt")
            yield Entry(name, file_reader(path), _text_reader(text))


def file_reader(path: Path, limit: int = MAX_BYTES) -> Callable[[], bytes]:
    """Function that reads a file, or raises UserError with the reason."""

    def read() -> bytes:
        try:
            if path.stat().st_size > limit:
                raise UserError(f"larger than {limit} bytes")
            return path.read_bytes()
        except OSError as error:
            raise UserError(f"cannot be read: {error.strerror}") from error

    return read


def _text_reader(path: Path) -> Callable[[], list[str]]:
    def read() -> list[str]:
        if not path.is_file():
            raise UserError(f"no caption file {path.name}")
        return _lines(file_reader(path)())

    return read


def _lines(data: bytes) -> list[str]:
    try:
        return data.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UserError("the caption is not UTF-8") from error


def _broken(name: str, reason: str) -> Entry:
    def fail():
        raise UserError(reason)

    return Entry(name, fail, fail)


def _table_entries(table: Path, top: Path, text_keys) -> Iterator[Entry]:
    """Rows of a CSV or JSON-lines file; file names are relative to its folder."""
    root, prefix = table.parent, table.parent.relative_to(top)
    try:
        data = file_reader(table, MAX_TABLE_BYTES)()
    except UserError as error:
        raise UserError(f"{table}: {error}") from error
    rows = _csv_rows(data) if table.suffix == ".csv" else _json_rows(data)
    for number, row in enumerate(rows, 1):
        place = f"{table.name}:{number}"
        name = _field(row, FILE_KEYS) if isinstance(row, dict) else None
        if not isinstance(name, str):
            yield _broken(place, row if isinstance(row, str) else "names no file")
            continue
        path = inside(root, name)
        if path is None:
            yield _broken(name, f"is outside {root} or no file name ({place})")
            continue
        captions = _texts(_field(row, text_keys))
        reader = file_reader(path)
        name = (prefix / name).as_posix()
        source = " ".join(_texts(row.get("source")))
        yield Entry(name, reader, lambda captions=captions: captions, path, source)


def inside(root: Path, name: str) -> Path | None:
    """The resolved path if it stays below `root`."""
    try:
        path = (root / name).resolve()
    except (OSError, ValueError, RuntimeError):  # NUL in the name, a loop of links.
        return None
    return path if path.is_relative_to(root.resolve()) else None


def _csv_rows(data: bytes) -> Iterator[dict | str]:
    """Rows by lower-case column name, or the reason why there is none."""
    # Bytes that are not UTF-8 become lone surrogates, found again row by row.
    text = data.decode("utf-8-sig", "surrogateescape")
    reader = csv.DictReader(io.StringIO(text, newline=""))
    while True:
        try:
            row = next(reader)
            "".join(v for v in row.values() if isinstance(v, str)).encode()
        except StopIteration:
            return
        except UnicodeEncodeError:
            yield "the row is not UTF-8"
        except csv.Error as error:
            yield f"not a row of a CSV: {error}"
        else:
            yield {(key or "").strip().lower(): value for key, value in row.items()}


def _json_rows(data: bytes) -> Iterator[dict | str]:
    # Only line feeds end a row: JSON strings may hold other line separators.
    for line in filter(bytes.strip, data.split(b"\n")):
        try:
            row = json.loads(line.decode("utf-8-sig"))
        except UnicodeDecodeError:
            yield "the row is not UTF-8"
        except (ValueError, RecursionError):
            yield "not JSON"
        else:
            yield row if isinstance(row, dict) else "not a JSON object"


def _field(row: dict, keys: tuple[str, ...]):
    found = [row[key] for key in keys if row.get(key)]
    return found[0] if found else None


def _texts(value) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [text for text in values if isinstance(text, str)]


def _tar_entries(path: Path, text_keys) -> Iterator[Entry]:
    """Groups members by name without suffix; nothing is ever unpacked to disk."""
    groups: dict[str, dict[str, tarfile.TarInfo]] = {}
    damage = ""
    try:
        with tarfile.open(path, "r:") as archive:
            for count, member in enumerate(archive):
                if count >= MAX_MEMBERS:
                    raise UserError(f"{path} has more than {MAX_MEMBERS} members")
                # Links, devices, folders and sparse files hold no image.
                if member.isfile() and not member.issparse():
                    key, suffix = posixpath.splitext(member.name)
                    groups.setdefault(key, {})[suffix.lower()] = member
    except (tarfile.TarError, OSError, EOFError) as error:
        damage = str(error) or "no tar archive"
    for key, members in sorted(groups.items()):
        images = [members[s] for s in IMAGE_SUFFIXES if s in members]
        name = f"{path.name}/{key}"
        if not images:
            yield _broken(name, "no image among its members")
            continue
        yield Entry(
            name,
            _member_reader(path, images[0]),
            lambda members=members: _member_captions(path, members, text_keys),
        )
    if damage:
        yield _broken(path.name, f"the archive is damaged: {damage}")


def _member_reader(path: Path, member: tarfile.TarInfo) -> Callable[[], bytes]:
    """Reads a member where it lies in the plain archive, which need not stay open."""

    def read() -> bytes:
        if member.size > MAX_BYTES:
            raise UserError(f"larger than {MAX_BYTES} bytes")
        try:
            with path.open("rb") as file:
                file.seek(member.offset_data, os.SEEK_SET)
                data = file.read(member.size)
        except OSError as error:
            raise UserError(f"cannot be read: {error.strerror}") from error
        if len(data) != member.size:
            raise UserError("cut short by the end of the archive")
        return data

    return read


def _member_captions(path: Path, members, text_keys) -> list[str]:
    if ".txt" in members:
        return _lines(_member_reader(path, members[".txt"])())
    if ".json" in members:
        data = _member_reader(path, members[".json"])()
        try:
            row = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise UserError("its .json is not JSON") from error
        return _texts(_field(row, text_keys)) if isinstance(row, dict) else []
    raise UserError("no .txt or .json beside it")
