"""Images that `cogjax generate` has left in a folder, and any others with captions."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from cogjax.data.captions import clean_caption
from cogjax.data.folder_entries import (
    TEXT_KEYS,
    Entry,
    file_reader,
    inside,
    list_entries,
)
from cogjax.data.images import decode_image
from cogjax.errors import UserError


def entries_of(source: Path) -> list[Entry]:
    """The images that generation.json and the like name, or else all in a folder.

    source: also a .tar, .csv or .jsonl, as of `list_entries`. UserError for a record
    that is damaged.
    """
    records = sorted(source.glob("generation*.json")) if source.is_dir() else []
    if records:
        return [entry for path in records for entry in _recorded(source, path)]
    return list(list_entries(source, TEXT_KEYS, Counter()))


def captions_of(entry: Entry) -> list[str]:
    """The captions of an image, none if it has none or they cannot be read."""
    try:
        texts = [clean_caption(text) for text in entry.read_captions()]
    except UserError:
        return []
    return [text for text in texts if text]


def pixels_of(source: Path, entry: Entry) -> np.ndarray:
    """The image, uint8 [y, x, 3]; UserError that names it."""
    try:
        return decode_image(entry.read_image())
    except UserError as error:
        raise UserError(f"image {entry.name} in {source}: {error}") from error


def _recorded(folder: Path, record: Path) -> Iterator[Entry]:
    try:
        images = json.loads(file_reader(record)())["images"]
        pairs = [(str(each["prompt"]), str(each["file"])) for each in images]
    except (UserError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(
            f"{record} is no record of `cogjax generate`: generate again, or take the "
            "file away"
        ) from error
    for text, name in pairs:
        path = inside(folder, name)
        if path is None:
            raise UserError(f"{record} names {name!r}, which is not in its folder")
        yield Entry(name, file_reader(path), lambda text=text: [text], path)
