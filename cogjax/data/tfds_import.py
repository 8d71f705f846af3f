"""A data set of tensorflow-datasets (TFDS) to a data set of cogjax.

It is read as `tfds.data_source` does, so it must be prepared as ArrayRecord files.
TensorFlow is not needed, nothing is fetched, and the images are decoded here.
"""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from cogjax.data.folder import (
    MAX_LISTED,
    ImportReport,
    check_budget,
    imported,
    kept_captions,
    printable,
)
from cogjax.data.folder_entries import TEXT_KEYS
from cogjax.data.output import Output
from cogjax.errors import UserError
from cogjax.files import check_apart

_SHARDS = 4  # of the split train; the others have one
_EXTRA = "tensorflow-datasets is not installed: pip install 'cogjax[tfds]'"


@dataclass(frozen=True)
class _Field:
    """A feature by the keys that lead to it. many: it is inside of a list."""

    keys: tuple[str, ...]
    feature: Any
    many: bool

    @property
    def name(self) -> str:
        return "/".join(self.keys)

    def values(self, example: Any) -> Sequence[Any]:
        """Its values in an example as TFDS gives it, decoded or not."""
        for key in self.keys:
            example = example[key]
        return example if self.many else [example]


def import_tfds(
    name: str,
    output: Output,
    *,
    data_dir: str | os.PathLike | None = None,
    captions: Sequence[str] = (),
    budget: float = 0.05,
) -> ImportReport:
    """Writes all splits of a prepared data set, its images as `output` fits them.

    A label is a caption by the name of its class, with spaces for underscores. Broken
    entries are skipped within `budget`, a share of all.

    Args:
      name: such as "coco_captions" or "my_set/config:1.0.0".
      data_dir: folder of TFDS; None is its own default.
      captions: names of text and label features, such as "captions/text"; empty takes
        the texts named caption, text or the like, else the only text or label.

    Raises:
      UserError: tensorflow-datasets is not installed, the data set is not there as
        ArrayRecord files, its features have no image or no caption, a folder is in the
        way, or more entries are broken than the budget allows. Nothing is written then.
    """
    builder = _open(name, data_dir)
    check_apart(output.folder, builder.data_dir)
    # The stored features have no order.
    fields = sorted(_fields(builder.info.features), key=lambda field: field.name)
    image, texts = _image_field(fields), _caption_fields(fields, captions)
    splits = _sources(builder, fields)
    # A split's name ends at the first hyphen of the names of its shards.
    shards = {s.replace("-", "_"): _SHARDS if s == "train" else 1 for s in splits}
    total = sum(map(len, splits.values()))
    skipped: list[tuple[str, str]] = []
    notes: Counter[str] = Counter()
    with output.builder("folder", shards) as writer:
        for done, (split, index) in enumerate(_entries(splits)):
            if done % 32 == 0:
                output.progress(done, total, "importing")
            entry = f"{split}/{index}"
            try:
                row = _read(splits[split], index)
                found: Counter[str] = Counter()
                words = kept_captions(_texts(texts, row), found)
                [data] = image.values(row)
                example = imported(entry, data, words, output, found)
            except UserError as error:
                skipped.append((entry, printable(str(error))))
                check_budget(skipped, budget, total)
            else:
                notes.update(found)
                writer.write(split.replace("-", "_"), example)
        output.progress(total, total, "importing")
        info = {
            "tfds": builder.info.full_name,
            "skipped": [list(pair) for pair in skipped[:MAX_LISTED]],
            "num_skipped": len(skipped),
            "changed": dict(+notes),
        }
        return ImportReport(writer.finish(info), skipped)


def _open(name: str, data_dir: str | os.PathLike | None) -> Any:
    """The builder of a prepared data set; none of its code runs."""
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise UserError(_EXTRA) from error
    where = data_dir or "the default folder of tensorflow-datasets"
    try:
        builder = tfds.builder(name, data_dir=data_dir)
        prepared = builder.is_prepared()
    except (ValueError, OSError, AssertionError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"no data set {name} in {where}: {reason}") from error
    if not prepared:
        raise UserError(
            f"no prepared data set {name} in {where}: prepare it with "
            "tensorflow-datasets, file_format='array_record'"
        )
    found = builder.info.file_format
    if found != tfds.core.FileFormat.ARRAY_RECORD:
        raise UserError(
            f"{name} is stored as {found.value}, expected array_record: prepare it "
            "with file_format='array_record', or convert it by `tfds convert_format`"
        )
    return builder


def _fields(
    features: Any, keys: tuple[str, ...] = (), many: bool = False
) -> Iterator[_Field]:
    """All features that hold no others."""
    import tensorflow_datasets as tfds

    if isinstance(features, tfds.features.Sequence):
        yield from _fields(features.feature, keys, True)
    elif isinstance(features, tfds.features.FeaturesDict):
        for key, feature in features.items():
            yield from _fields(feature, (*keys, key), many)
    else:
        yield _Field(keys, features, many)


def _of_kind(fields: Sequence[_Field], kind: str) -> list[_Field]:
    import tensorflow_datasets as tfds

    return [x for x in fields if isinstance(x.feature, getattr(tfds.features, kind))]


def _image_field(fields: Sequence[_Field]) -> _Field:
    """The only image, or of several the one with that name."""
    images = [field for field in _of_kind(fields, "Image") if not field.many]
    chosen = [field for field in images if field.name == "image"] or images
    if len(chosen) != 1:
        raise UserError(
            f"the images are {_named(images)}, expected one, or one named image"
        )
    return chosen[0]


def _caption_fields(fields: Sequence[_Field], asked: Sequence[str]) -> list[_Field]:
    texts, labels = _of_kind(fields, "Text"), _of_kind(fields, "ClassLabel")
    if asked:
        there = {field.name: field for field in (*texts, *labels)}
        for name in asked:
            if name not in there:
                known = _named(there.values())
                raise UserError(f"no text or label {name}: there are {known}")
        return [there[name] for name in asked]
    named = [field for field in texts if field.keys[-1] in TEXT_KEYS]
    # Other texts may be file names and the like.
    chosen = named or [*texts, *labels]
    if not chosen or (not named and len(chosen) > 1):
        raise UserError(
            f"the texts are {_named(texts)}, the labels {_named(labels)}: say which "
            "are captions with --caption-field A,B"
        )
    return chosen


def _named(fields: Iterable[_Field]) -> str:
    return ", ".join(field.name for field in fields) or "none"


def _sources(builder: Any, fields: Sequence[_Field]) -> dict[str, Any]:
    """Random access to each split, images as the bytes that were stored."""
    import tensorflow_datasets as tfds

    raw: dict[str, Any] = {}
    for field in _of_kind(fields, "Image"):
        if not field.many:
            inner = raw
            for key in field.keys[:-1]:
                inner = inner.setdefault(key, {})
            inner[field.keys[-1]] = tfds.decode.SkipDecoding()
    return {
        split: builder.as_data_source(split=split, decoders=raw)
        for split in builder.info.splits
    }


def _entries(splits: dict[str, Any]) -> Iterator[tuple[str, int]]:
    return ((s, index) for s, source in splits.items() for index in range(len(source)))


def _read(source: Any, index: int) -> Any:
    try:
        return source[index]
    except Exception as error:  # The features decode themselves, and raise every type.
        raise UserError(f"cannot be read: {error}"[:200]) from error


def _texts(fields: Sequence[_Field], row: Any) -> list[str]:
    return [_text(field.feature, x) for field in fields for x in field.values(row)]


def _text(feature: Any, value: Any) -> str:
    """A text, or the name of a class; "" for none, as test splits have."""
    if hasattr(feature, "int2str"):
        name = feature.int2str(int(value)) if value >= 0 else ""
        return name.replace("_", " ")
    try:
        return value.decode() if isinstance(value, bytes) else str(value)
    except UnicodeDecodeError as error:
        raise UserError("the caption is not UTF-8") from error
