"""Your own images and captions to a data set.

Sources, alone or mixed in one folder:

    cat.jpg + cat.txt           every line of the text is a caption
    metadata.jsonl              {"file_name": "cat.jpg", "text": "a cat"} a line
    *.csv                       columns file and caption (or similar names)
                                also column `source` of tables, for `data filter`
    *.tar                       members 0001.jpg + 0001.txt or 0001.json (webdataset)
"""

import os
import unicodedata
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cogjax.data.folder_entries import TEXT_KEYS, Entry, list_entries
from cogjax.data.images import decode_image, dimensions, encode_png
from cogjax.data.output import Output
from cogjax.data.records import Example, Manifest
from cogjax.errors import UserError
from cogjax.files import check_apart

MAX_CAPTION = 2000
MAX_LISTED = 1000


@dataclass(frozen=True)
class ImportReport:
    """skipped: (name, reason) of every broken entry."""

    manifest: Manifest
    skipped: list[tuple[str, str]]


def import_folder(
    source: str | os.PathLike,
    output: Output,
    *,
    budget: float = 0.05,
    val_fraction: float = 0.02,
    caption_field: str | None = None,
) -> ImportReport:
    """Writes splits train and val of all usable images, resized and centre-cropped.

    A broken entry is skipped with its reason while the skipped stay within `budget`, a
    share of all entries. The split follows a hash of the name.

    Args:
      caption_field: name of the field with the captions in tables
        and .json members; None takes text, caption, captions, prompt or description.

    Raises:
      UserError: a folder that is in the way, nothing to import, or more broken entries
        than the budget allows, naming the first ones. Nothing is written then.
    """
    check_apart(output.folder, source)
    shards = {"train": 4, "val": 1}
    builder = output.builder("folder", shards)
    text_keys = (caption_field,) if caption_field else TEXT_KEYS
    entries = list(list_entries(Path(source), text_keys))
    if not entries:
        raise UserError(
            f"{source} has no captioned images: expected images with .txt files, "
            f"metadata.jsonl, a CSV or .tar shards"
        )
    skipped: list[tuple[str, str]] = []
    with builder:
        for index, entry in enumerate(entries):
            if index % 32 == 0:
                output.progress(index, len(entries), "importing")
            name = printable(entry.name)
            try:
                example = _read(entry, name, output.size)
            except UserError as error:
                skipped.append((name, printable(str(error))))
                check_budget(skipped, budget, len(entries))
                continue
            held_out = zlib.crc32(name.encode()) < val_fraction * 2**32
            builder.write("val" if held_out else "train", example)
        output.progress(len(entries), len(entries), "importing")
        listed = [list(pair) for pair in skipped[:MAX_LISTED]]
        info = {"skipped": listed, "num_skipped": len(skipped)}
        manifest = builder.finish(info)
    return ImportReport(manifest, skipped)


def clean_caption(text: str) -> str:
    """Control and private characters become spaces; at most 2,000 characters."""
    # Unassigned code points stay: emoji newer than this Python's tables are among them.
    text = "".join(
        " " if unicodedata.category(c) in ("Cc", "Cs", "Co") else c
        for c in text[: 4 * MAX_CAPTION]
    )
    return " ".join(text.split())[:MAX_CAPTION].rstrip()


def _read(entry: Entry, name: str, size: int) -> Example:
    texts = [text for text in map(clean_caption, entry.read_captions()) if text]
    if not texts:
        raise UserError("no caption")
    captions = tuple(("", text) for text in texts)
    return imported(name, entry.read_image(), captions, size, source=entry.source)


def imported(
    name: str,
    data: bytes,
    captions: tuple[tuple[str, str], ...],
    size: int,
    *,
    source: str = "",
) -> Example:
    """An example of an encoded image, cropped to `size`; UserError for a broken one.

    Its meta is the width and height before, and the source if there is one.
    """
    pixels = decode_image(data, size)
    width, height = dimensions(data)
    meta = {"width": str(width), "height": str(height)}
    if source := clean_caption(source):
        meta["source"] = source
    return Example(name, encode_png(pixels), captions, meta)


def printable(text: str) -> str:
    """One line of valid UTF-8: file names may hold any bytes."""
    text = text.encode("utf-8", "backslashreplace").decode()
    return "".join(c if c.isprintable() else "?" for c in text)


def check_budget(skipped: Sequence[tuple[str, str]], budget: float, total: int) -> None:
    """UserError if the skipped (name, reason) pairs are over a share of `total`."""
    # A data set of nothing is never within the budget.
    if len(skipped) <= budget * total and len(skipped) < total:
        return
    first = "; ".join(f"{name}: {reason}" for name, reason in skipped[:3])
    raise UserError(
        f"{len(skipped)} of {total} entries are broken, over the budget of "
        f"{budget:.1%}: {first}"
    )
