"""Your own questions about images to a data set.

    {"image": "cat.jpg", "question": "what is it?", "answer": "a cat"}    a line, UTF-8

`image` is relative to the file's folder and stays inside it. A field "type", if any,
names the kind of the question; accuracies are reported by kind.
"""

import json
import os
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from cogjax.data.captions import clean_caption
from cogjax.data.folder import printable
from cogjax.data.folder_entries import MAX_TABLE_BYTES, file_reader, inside
from cogjax.data.images import encode_png
from cogjax.data.output import Output
from cogjax.data.records import Example, Manifest
from cogjax.errors import UserError
from cogjax.files import check_apart

Triple = tuple[str, str, str]


def import_questions(
    source: str | os.PathLike,
    output: Output,
    *,
    val_fraction: float = 0.02,
) -> Manifest:
    """Writes splits train and val of the images of a .jsonl file, with its questions.

    An image is one example, with all questions about it; the split follows a hash of
    its name. Images are fitted as `output` says.

    Raises:
      UserError: a line that is no question, with its number, or an image that is
        missing, outside the folder or unreadable; a folder in the way. Nothing is
        written then.
    """
    source = Path(source)
    check_apart(output.folder, source)
    shards = {"train": 4, "val": 1}
    builder = output.builder("questions", shards)
    notes: Counter[str] = Counter()
    asked = _read(source, notes)
    with builder:
        for index, (name, (path, place, questions)) in enumerate(asked.items()):
            if index % 32 == 0:
                output.progress(index, len(asked), "importing")
            try:
                pixels = output.pixels(file_reader(path)(), notes)
            except UserError as error:
                raise UserError(f"{place}: image {name}: {error}") from error
            example = Example(name, encode_png(pixels), (), questions=tuple(questions))
            held_out = zlib.crc32(name.encode()) < val_fraction * 2**32
            builder.write("val" if held_out else "train", example)
        output.progress(len(asked), len(asked), "importing")
        total = sum(len(questions) for *_, questions in asked.values())
        return builder.finish({"num_questions": total, "changed": dict(+notes)})


def _read(source: Path, notes: Counter) -> dict[str, tuple[Path, str, list[Triple]]]:
    """(file, place of the first line, questions) of each image by its name."""
    asked: dict[str, tuple[Path, str, list[Triple]]] = {}
    try:
        data = file_reader(source, MAX_TABLE_BYTES)()
    except UserError as error:
        raise UserError(f"{source}: {error}") from error
    for place, image, triple in _lines(source, data, notes):
        path, name = inside(source.parent, image), printable(image)[:100]
        if path is None:
            raise UserError(f"{place}: image {name} is outside {source.parent}")
        try:
            there = path.is_file()
        except OSError as error:
            raise UserError(f"{place}: image {name}: {error.strerror}") from error
        if not there:
            raise UserError(f"{place}: image {name} is missing")
        # However lines spell its path, an image has one name and so is in one split.
        name = printable(path.relative_to(source.parent.resolve()).as_posix())
        asked.setdefault(name, (path, place, []))[2].append(triple)
    if not asked:
        raise UserError(f"{source} holds no questions: write one JSON object a line")
    return asked


def _lines(
    source: Path, data: bytes, notes: Counter
) -> Iterator[tuple[str, str, Triple]]:
    """(place, name of the image, (kind, question, answer)) of each line."""
    for number, line in enumerate(data.split(b"\n"), 1):
        if not line.strip():
            continue
        place = f"{source}:{number}"
        try:
            row = json.loads(line.decode("utf-8-sig"))
        except UnicodeDecodeError as error:
            raise UserError(f"{place}: not UTF-8") from error
        except (ValueError, RecursionError) as error:
            raise UserError(f"{place}: not JSON: {error}") from error
        if not isinstance(row, dict):
            raise UserError(f"{place}: not a JSON object")
        kind = row.get("type", "")
        if not isinstance(kind, str):
            raise UserError(f"{place}: type is no text")
        texts = {}
        for name in ("image", "question", "answer"):
            text = row.get(name)
            texts[name] = _clean(place, text, notes) if isinstance(text, str) else ""
            if not texts[name]:
                raise UserError(
                    f"{place}: needs the texts image, question and answer, has no "
                    f"{name}"
                )
        triple = _clean(place, kind, notes), texts["question"], texts["answer"]
        yield place, row["image"], triple


def _clean(place: str, text: str, notes: Counter) -> str:
    try:
        return clean_caption(text, notes)
    except UserError as error:
        raise UserError(f"{place}: {error}") from error
