"""Your own images and captions to a data set.

Sources, alone or mixed in one folder:

    cat.jpg + cat.txt           or cat.caption; every line of the text is a caption
    metadata.jsonl              {"file_name": "cat.jpg", "text": "a cat"} a line
    *.csv                       columns file and caption (or similar names)
                                also column `source` of tables, for `data filter`
    *.tar                       members 0001.jpg + 0001.txt or 0001.json (webdataset)
"""

import os
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cogjax.data.captions import clean_caption
from cogjax.data.folder_entries import TEXT_KEYS, Entry, list_entries
from cogjax.data.images import dimensions, encode_png
from cogjax.data.output import Output
from cogjax.data.records import Example, Manifest
from cogjax.errors import UserError
from cogjax.files import check_apart

MAX_LISTED = 1000


@dataclass(frozen=True)
class ImportReport:
    """skipped: (name, reason) of every broken entry.

    The manifest's info says under "changed" how many were not taken as they are.
    """

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
    """Writes splits train and val of all usable images, as `output` fits them.

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
    notes: Counter[str] = Counter()
    entries = list(list_entries(Path(source), text_keys, notes))
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
                example = _read(entry, name, output, notes)
            except UserError as error:
                skipped.append((name, printable(str(error))))
                check_budget(skipped, budget, len(entries))
                continue
            held_out = zlib.crc32(name.encode()) < val_fraction * 2**32
            builder.write("val" if held_out else "train", example)
        output.progress(len(entries), len(entries), "importing")
        listed = [list(pair) for pair in skipped[:MAX_LISTED]]
        info = {"skipped": listed, "num_skipped": len(skipped), "changed": dict(+notes)}
        manifest = builder.finish(info)
    return ImportReport(manifest, skipped)


def _read(entry: Entry, name: str, output: Output, notes: Counter) -> Example:
    """The example; what was changed is counted only if the whole can be read."""
    found: Counter[str] = Counter()
    captions = kept_captions(entry.read_captions(), found)
    data = entry.read_image()
    example = imported(name, data, captions, output, found, source=entry.source)
    notes.update(found)
    return example


def kept_captions(texts: Sequence[str], notes: Counter) -> tuple[tuple[str, str], ...]:
    """("", text) of each text that is not blank; UserError if there is none."""
    try:
        texts = [text for text in (clean_caption(c, notes) for c in texts) if text]
    except UserError as error:
        raise UserError(f"the caption is {error}") from error
    if not texts:
        raise UserError("no caption")
    return tuple(("", text) for text in texts)


def imported(
    name: str,
    data: bytes,
    captions: tuple[tuple[str, str], ...],
    output: Output,
    notes: Counter,
    *,
    source: str = "",
) -> Example:
    """An example of an encoded image, as `output` is to hold it.

    Its meta is the width and height before, and the source if there is one. What is not
    taken as it is, `notes` counts. UserError for a broken image.
    """
    pixels = output.pixels(data, notes)
    width, height = dimensions(data)
    meta = {"width": str(width), "height": str(height)}
    if source := clean_caption(source, notes):
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
