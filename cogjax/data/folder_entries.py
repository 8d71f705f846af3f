"""Finds images and their captions in folders, tables and archives.

Files are not trusted: a broken entry raises UserError with its reason when it is read,
names stay inside the folder of their table, and archives are never unpacked.
"""

import csv
import io
import json
import os
import posixpath
import stat
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cogjax.data.captions import decode_text, lines_of
from cogjax.errors import UserError

# Formats that cannot be read are listed too, so that they are reported, not missed.
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
IMAGE_SUFFIXES += (".jfif", ".jpe", ".svg", ".avif", ".heic", ".heif", ".jxl", ".jp2")
IMAGE_SUFFIXES += (".ppm", ".pgm", ".pnm", ".tga", ".psd", ".ico", ".eps", ".dng")
TEXT_SUFFIXES = (".txt", ".caption")
_TABLE_SUFFIXES = (".csv", ".jsonl", ".json", ".tar")
ALONE = "caption files without an image"
BESIDE = "caption files of images whose captions stand elsewhere too, not read"
UNREAD = "files that are no image, caption, table or archive, not read"
LINKS = "archive members that are links, devices or sparse, not read"
REPLACED = "archive members replaced by a later one of their name"
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
    source: Path, text_keys: tuple[str, ...], notes: Counter
) -> Iterator[Entry]:
    """Yields the images of a folder, .tar, .csv or .jsonl, in a fixed order.

    text_keys: names of the field that holds the captions in tables and .json members,
    in any case. notes: counts what is no entry and yet left out, by its reason.
    """
    text_keys = tuple(key.strip().lower() for key in text_keys)
    if source.is_dir():
        yield from _folder_entries(source, text_keys, notes)
    elif source.suffix == ".tar" and source.is_file():
        yield from _tar_entries(source, text_keys, notes)
    elif source.suffix in (".csv", ".jsonl") and source.is_file():
        yield from _table_entries(source, source.parent, text_keys)
    else:
        raise UserError(f"{source} is no folder, .tar, .csv or .jsonl file")


def _folder_entries(folder: Path, text_keys, notes: Counter) -> Iterator[Entry]:
    found = sorted(folder.rglob("*"))
    files = [path for path in found if path.is_file()]
    tables = [p for p in files if p.suffix == ".csv" or p.name == "metadata.jsonl"]
    archives = [path for path in files if path.suffix == ".tar"]
    images = dict(_images_with_texts(files, notes))
    listed = set()
    for table in tables:
        for entry in _table_entries(table, folder, text_keys):
            listed.add(entry.path)
            yield entry
    for path in archives:
        yield from _tar_entries(path, text_keys, notes)
    for path, text in images.items():
        if path.resolve() not in listed:
            name = path.relative_to(folder).as_posix()
            yield Entry(name, file_reader(path), _text_reader(path, text))
        else:
            notes[BESIDE] += text is not None
    for path in set(found) - {*tables, *archives, *images}:
        # Texts are as many as images, and need no look at the disk.
        if path.suffix.lower() not in TEXT_SUFFIXES and not path.is_dir():
            notes[UNREAD] += Path(os.path.realpath(path)) not in listed
    for path in found:
        if path.is_symlink() and path.is_dir():
            yield _broken(path.relative_to(folder).as_posix(), "a link to a folder")


def _images_with_texts(
    files: list[Path], notes: Counter
) -> Iterator[tuple[Path, Path | None]]:
    """Images, and files of any other kind that have a caption file, each with that."""
    texts: dict[Path, Path] = {}
    for path in files:
        if path.suffix.lower() in TEXT_SUFFIXES:
            notes[BESIDE] += path.with_suffix("") in texts
            texts[path.with_suffix("")] = path
    used = set()
    for path in files:
        suffix, text = path.suffix.lower(), texts.get(path.with_suffix(""))
        no_image = suffix in (*TEXT_SUFFIXES, *_TABLE_SUFFIXES)
        if suffix in IMAGE_SUFFIXES or (text and not no_image):
            used.add(text)
            yield path, text
    notes[ALONE] += len(set(texts.values()) - used)


def file_reader(path: Path, limit: int = MAX_BYTES) -> Callable[[], bytes]:
    """Function that reads a file, or raises UserError with the reason."""

    def read() -> bytes:
        try:
            found = path.stat()
            if not stat.S_ISREG(found.st_mode):
                # Reading a pipe would wait for its writer.
                raise UserError("no regular file")
            if found.st_size > limit:
                raise UserError(f"larger than {limit} bytes")
            return path.read_bytes()
        except OSError as error:
            raise UserError(f"cannot be read: {error.strerror}") from error

    return read


def _text_reader(image: Path, path: Path | None) -> Callable[[], list[str]]:
    def read() -> list[str]:
        if path is None:
            raise UserError(f"no caption file {image.with_suffix('.txt').name}")
        return _lines(file_reader(path)())

    return read


def _lines(data: bytes) -> list[str]:
    try:
        return lines_of(decode_text(data))
    except UserError as error:
        raise UserError(f"the caption is {error}") from error


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
        value = _field(row, text_keys)
        reader = file_reader(path)
        name = (prefix / name).as_posix()
        source = " ".join(_texts(row.get("source")))
        yield Entry(name, reader, lambda value=value: _texts(value), path, source)


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
    # Strict: a quote that is never closed would make one caption of all that follows.
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    names: list[str] = []
    while True:
        try:
            row = next(reader)
            "".join(row).encode()
        except StopIteration:
            return
        except UnicodeEncodeError:
            yield "the row is not UTF-8"
        except csv.Error as error:
            yield f"not a row of a CSV: {error}"
        else:
            if names and row:
                yield _csv_row(names, row)
            names = names or [name.strip().lower() for name in row]


def _csv_row(names: list[str], row: list[str]) -> dict | str:
    """A row by its header; a reason for one that does not fit it."""
    if len(row) != len(names):
        return (
            f"{len(row)} fields, expected {len(names)}: quote a caption that has commas"
        )
    if len(set(names)) != len(names):
        return "two columns of the table have one name"
    return dict(zip(names, row, strict=True))


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


def _field(row: Mapping, keys: tuple[str, ...]):
    """The first field of lower-case `keys` that holds something, in any case."""
    row = {name.strip().lower(): value for name, value in row.items()}
    found = [row[key] for key in keys if row.get(key)]
    return found[0] if found else None


def _texts(value) -> list[str]:
    values = value if isinstance(value, list) else [value] if value else []
    if not all(isinstance(text, str) for text in values):
        raise UserError("a caption is no text")
    return values


def _tar_entries(path: Path, text_keys, notes: Counter) -> Iterator[Entry]:
    """Groups members by name without suffix; nothing is ever unpacked to disk."""
    groups: dict[str, dict[str, tarfile.TarInfo]] = {}
    damage = ""
    try:
        for member in _members(path, notes):
            key, suffix = posixpath.splitext(member.name)
            group = groups.setdefault(key, {})
            notes[REPLACED] += suffix.lower() in group
            group[suffix.lower()] = member
    except UserError:
        raise
    except Exception as error:  # The standard library raises nearly every type.
        damage = str(error) or "no tar archive"
    for key, members in sorted(groups.items()):
        images = [s for s in IMAGE_SUFFIXES if s in members]
        notes[BESIDE] += members.keys() >= set(TEXT_SUFFIXES)
        if not images:
            yield _broken(f"{path.name}/{key}", "no image among its members")
        for suffix in images:
            name = f"{path.name}/{key}" + (suffix if len(images) > 1 else "")
            yield Entry(
                name,
                _member_reader(path, members[suffix]),
                lambda members=members: _member_captions(path, members, text_keys),
            )
    if damage:
        yield _broken(path.name, f"the archive is damaged: {damage}")


def _members(path: Path, notes: Counter) -> Iterator[tarfile.TarInfo]:
    """The plain files of an archive; an exception of any type where it is damaged."""
    with tarfile.open(path, "r:") as archive:
        place = -1
        for count, member in enumerate(archive):
            if count >= MAX_MEMBERS:
                raise UserError(f"{path} has more than {MAX_MEMBERS} members")
            if member.size < 0 or archive.offset <= place:
                raise ValueError("a member of negative size")
            place = archive.offset
            if member.isfile() and not member.issparse():
                yield member
            else:
                notes[LINKS] += not member.isdir()
        _check_end(archive)


def _check_end(archive: tarfile.TarFile) -> None:
    """ValueError unless what follows the last member is zeros, which mark the end."""
    file = archive.fileobj
    end = file.seek(0, os.SEEK_END)
    if end - archive.offset < tarfile.BLOCKSIZE:
        raise ValueError("it has no end, as one that was cut short")
    file.seek(archive.offset)
    while chunk := file.read(1 << 20):
        if rest := chunk.lstrip(b"\0"):
            behind = end - file.tell() + len(rest)
            raise ValueError(f"{behind} bytes follow its end, as of a second archive")


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
    for suffix in TEXT_SUFFIXES:
        if suffix in members:
            return _lines(_member_reader(path, members[suffix])())
    if ".json" in members:
        data = _member_reader(path, members[".json"])()
        try:
            row = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise UserError("its .json is not JSON") from error
        return _texts(_field(row, text_keys)) if isinstance(row, dict) else []
    raise UserError("no .txt or .json beside it")
