"""Data sets on disk: ArrayRecord shards and a manifest.

    DIR/manifest.json
    DIR/train-00000-of-00004.arrayrecord ...

A record is the msgpack of one example; nothing in it is executed when read.
"""

import os
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import msgpack

from cogjax.data.aspects import Shape, name, of_names
from cogjax.data.images import decode_image, png_shape
from cogjax.data.manifest import (
    DATA_SET,
    Manifest,
    damaged_shards,
    fingerprint,
    mark,
    read_manifest,
    verify,
    write_manifest,
)
from cogjax.errors import UserError
from cogjax.files import file_sha256, partial_folder, write_atomic

__all__ = [
    "CODES",
    "DATA_SET",
    "EMBEDDINGS",
    "Contents",
    "contents_of",
    "DatasetBuilder",
    "Example",
    "Manifest",
    "damaged_shards",
    "decode_image",
    "described",
    "fingerprint",
    "mark",
    "open_split",
    "pack",
    "read_manifest",
    "verify",
    "write_manifest",
]

# Kinds of data sets that hold something else instead of images.
CODES, EMBEDDINGS = "codes", "embeddings"


@dataclass(frozen=True)
class Example:
    """One image with its captions, and questions about it.

    image: encoded (PNG) bytes. captions: (language, text) pairs, the language "en",
    "zh" or "" if unknown. meta: free text fields such as the style. questions: (kind,
    question, answer), the kind "" if there are none.
    """

    id: str
    image: bytes
    captions: tuple[tuple[str, str], ...]
    meta: dict[str, str] = field(default_factory=dict)
    questions: tuple[tuple[str, str, str], ...] = ()

    @property
    def shape(self) -> Shape | None:
        """(height, width) in pixels, None for what is no PNG."""
        return png_shape(self.image)

    def pack(self) -> bytes:
        """Serialises the example."""
        return pack(asdict(self))

    @classmethod
    def unpack(cls, record: bytes) -> "Example":
        """Reads a serialised example; ValueError if it is none."""
        try:
            fields = msgpack.unpackb(record, strict_map_key=True)
            if not isinstance(fields["image"], bytes):
                raise TypeError("an image that is no bytes")
            return cls(image=fields["image"], **described(fields))
        except (KeyError, TypeError, ValueError, msgpack.UnpackException) as error:
            raise ValueError("the record is not a cogjax example") from error


def pack(fields: dict[str, Any]) -> bytes:
    """msgpack of a record's fields; a record without questions has no such field."""
    if not fields["questions"]:
        fields = {name: value for name, value in fields.items() if name != "questions"}
    return msgpack.packb(fields)


def described(fields: Mapping[str, Any]) -> dict[str, Any]:
    """What all kinds of records have: id, captions, meta and questions.

    TypeError, ValueError or KeyError for fields of other types, or lost ones.
    """
    meta = _checked(fields["meta"], dict)
    _texts([*meta, *meta.values()])
    return {
        "id": _checked(fields["id"], str),
        "captions": _tuples(fields["captions"], 2),
        "meta": meta,
        "questions": _tuples(fields.get("questions", []), 3),
    }


def _tuples(found: Any, size: int) -> tuple:
    """A list of lists of `size` texts; a text is no list of its letters."""
    rows = [_texts(row) for row in _checked(found, list)]
    if any(len(row) != size for row in rows):
        raise ValueError(f"other than {size} texts")
    return tuple(map(tuple, rows))


def _texts(found: Any) -> list[str]:
    return [_checked(text, str) for text in _checked(found, list)]


def _checked(found: Any, kind: type) -> Any:
    if not isinstance(found, kind):
        raise TypeError(f"a {type(found).__name__}, expected a {kind.__name__}")
    return found


class Contents:
    """Counts the contents of examples, for a manifest."""

    def __init__(self):
        kinds = ("style", "captions", "questions", "shape")
        self._found = {kind: Counter() for kind in kinds}

    def add(self, example: Any) -> None:
        """Counts an `Example`, or one with codes in place of the image."""
        style = example.meta.get("style")
        self._found["style"].update([] if style is None else [style])
        self._found["captions"].update(language for language, _ in example.captions)
        self._found["questions"].update(kind for kind, _, _ in example.questions)
        shape = getattr(example, "shape", None)
        self._found["shape"].update([] if shape is None else [name(shape)])

    def add_counts(self, counts: Mapping[str, Mapping[str, int]]) -> None:
        """Adds the counts of another one."""
        for what, found in counts.items():
            self._found[what].update(found)

    def counts(self) -> dict[str, dict[str, int]]:
        """As in `Manifest.contents`, for one split."""
        return {
            what: dict(sorted(found.items()))
            for what, found in self._found.items()
            if found or what not in ("questions", "shape")
        }


def contents_of(
    splits: Mapping[str, Contents], images: int = 1
) -> dict[str, dict[str, dict[str, int]]]:
    """`Manifest.contents`: shapes are counted where some image is no square.

    images: how many are one above the other in an example, 2 of pairs.
    """
    found = {split: contents.counts() for split, contents in splits.items()}
    shapes = of_names(
        text for counts in found.values() for text in counts.get("shape", ())
    )
    if all(rows == images * columns for rows, columns in shapes):
        for counts in found.values():
            counts.pop("shape", None)
    return found


class RecordWriter:
    """Writes one split as `num_shards` ArrayRecord files, examples dealt in turn."""

    def __init__(self, folder: str | os.PathLike, split: str, num_shards: int = 4):
        from array_record.python.array_record_module import ArrayRecordWriter

        self.folder, self.split, self.count = Path(folder), split, 0
        self.folder.mkdir(parents=True, exist_ok=True)
        self.names = [
            f"{split}-{i:05d}-of-{num_shards:05d}.arrayrecord"
            for i in range(num_shards)
        ]
        # One record a group: examples are read at random.
        self._shards = [
            ArrayRecordWriter(str(self.folder / name), "group_size:1")
            for name in self.names
        ]

    def write(self, example: Example) -> None:
        """Appends an example."""
        self._shards[self.count % len(self._shards)].write(example.pack())
        self.count += 1

    def close(self) -> None:
        """Finishes the files; without it they cannot be read."""
        for shard in self._shards:
            shard.close()


class DatasetBuilder:
    """Builds a data set and moves it to `out` whole, or leaves nothing.

        with DatasetBuilder(out, "emoji", 64, {"train": 4, "val": 1}) as builder:
            builder.write("train", example)
            manifest = builder.finish({})

    With `overwrite`, `finish` replaces a data set in `out` and removes only its files.
    Any other folder that is not empty raises UserError before any work.
    """

    def __init__(
        self,
        out: str | os.PathLike,
        kind: str,
        image_size: int,
        num_shards: Mapping[str, int],
        overwrite: bool = False,
    ):
        self.out, self.kind = DATA_SET.check(out, overwrite), kind
        self.image_size = image_size
        self._num_shards, self._overwrite = num_shards, overwrite
        self._contents = {s: Contents() for s in num_shards}
        self._others: list[str] = []
        self._stack = ExitStack()

    def __enter__(self) -> "DatasetBuilder":
        self._partial = self._stack.enter_context(partial_folder(self.out))
        self._writers = {
            split: RecordWriter(self._partial, split, count)
            for split, count in self._num_shards.items()
        }
        return self

    def __exit__(self, *error) -> None:
        self._stack.__exit__(*error)

    def write(self, split: str, example: Example) -> None:
        """Appends an example to a split."""
        self._writers[split].write(example)
        self._contents[split].add(example)

    def write_text(self, name: str, text: str) -> None:
        """Adds a text file for people, such as licences, to the folder."""
        write_atomic(self._partial / name, text)
        self._others.append(name)

    def finish(self, info: Mapping[str, Any]) -> Manifest:
        """Closes the shards, writes the manifest and moves the files into place."""
        for writer in self._writers.values():
            writer.close()
        manifest = self._manifest(info)
        DATA_SET.publish(self._partial, self.out, self._overwrite)
        return manifest

    def _manifest(self, info: Mapping[str, Any]) -> Manifest:
        checksums = {
            name: file_sha256(self._partial / name)
            for writer in self._writers.values()
            for name in writer.names
        }
        manifest = Manifest(
            self.kind,
            self.image_size,
            {split: writer.count for split, writer in self._writers.items()},
            checksums,
            fingerprint(checksums),
            dict(info),
            contents_of(self._contents, info.get("images", 1)),
            tuple(self._others),
            {name: mark(self._partial / name) for name in checksums},
        )
        write_manifest(self._partial, manifest)
        return manifest


class Split:
    """Random access to the examples of a split; picklable."""

    def __init__(self, paths: list[Path], record: type = Example):
        from grain.sources import ArrayRecordDataSource

        self._folder, self._record = paths[0].parent, record
        self._source = ArrayRecordDataSource([str(path) for path in paths])

    def __len__(self) -> int:
        return len(self._source)

    def read(self, index: int) -> Any:
        """As `[index]`, but a damaged record is a ValueError and no shard is named."""
        try:
            return self._record.unpack(self._source[index])
        except (RuntimeError, IndexError) as error:
            raise ValueError("the record is damaged") from error

    def __getitem__(self, index: int) -> Any:
        if not 0 <= index < len(self):
            # Not damage; and it ends `for example in split`.
            raise IndexError(f"record {index} of {len(self)}")
        try:
            return self.read(index)
        except ValueError as error:
            names = ", ".join(damaged_shards(self._folder)) or "no shard differs"
            raise UserError(
                f"record {index} in {self._folder} is damaged ({names}): "
                f"copy or build the data again"
            ) from error


def open_split(folder: str | os.PathLike, split: str, record: type = Example) -> Split:
    """Opens a split of `record`s; UserError naming a missing or unfinished shard."""
    manifest, folder = read_manifest(folder), Path(folder)
    if manifest.kind in (CODES, EMBEDDINGS) and record is Example:
        raise UserError(
            f"{folder} holds {manifest.kind}, not images: give the data set it was "
            "encoded from"
        )
    if split not in manifest.counts:
        raise UserError(
            f"{folder} has no split '{split}': it has {', '.join(manifest.counts)}"
        )
    names = manifest.shards(split)
    paths = [folder / name for name in names]
    for path in paths:
        if not path.is_file():
            raise UserError(f"shard {path} is missing: copy or build the data again")
        if manifest.marks and mark(path) != manifest.marks.get(path.name):
            raise UserError(
                f"shard {path} is damaged, or another one under this name: copy or "
                "build the data again"
            )
    try:
        opened = Split(paths, record)
        found = len(opened)
    except Exception as error:  # ArrayRecord raises bare types with empty messages.
        damaged = [name for name in damaged_shards(folder) if name in names]
        raise UserError(
            f"cannot open {', '.join(damaged) or split} in {folder}, perhaps cut "
            f"short: copy or build the data again"
        ) from error
    if found != manifest.counts[split]:
        raise UserError(
            f"split '{split}' of {folder} has {found} records, the manifest says "
            f"{manifest.counts[split]}: build the data again"
        )
    return opened
