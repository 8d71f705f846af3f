"""The images of `cogjax finetune`: imported, mixed with the base's, and known again."""

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np

from cogjax.config import save_json
from cogjax.data import records
from cogjax.data.folder import import_folder
from cogjax.data.output import Output, Progress
from cogjax.errors import UserError
from cogjax.model import Model
from cogjax.train.processes import say

# Share of the images that are held out, and of the base's own among those learnt.
_HELD_OUT, _MIXED = 0.1, 0.25
_PROMPTS = 8


def check_same(folder: Path, source: str, base_data: str, keep: bool = True) -> None:
    """UserError for other images than the run in a folder began with.

    keep: whether they are remembered there, if none are yet.
    """
    path = folder / "source.json"
    found = {"images": _digest(Path(source)), "base_data": ""}
    if base_data:
        found["base_data"] = records.read_manifest(base_data).fingerprint
    if not path.is_file():
        if keep:
            save_json(found, path)
    elif json.loads(path.read_text(encoding="utf-8")) != found:
        raise UserError(
            f"the images are others than the run in {folder} began with: put "
            "them back, or give another --workdir"
        )


def _digest(source: Path) -> str:
    """Digest of the names, sizes and times of all files."""
    files = sorted(path for path in source.rglob("*") if path.is_file())
    found = hashlib.sha256()
    for path in files or [source]:
        stat = path.stat()
        found.update(f"{path.name}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    return found.hexdigest()


def data_set(
    source: str, base_data: str, base: Model, folder: Path, progress: Progress
) -> Path:
    """The data set of a run: as given, imported, or mixed with the base's images.

    source: a data set, or what is imported to folder/images, in sizes of the base.
    base_data: data set of the base, mixed with it in folder/mixed; "" for none.
    What is there already is taken as it is.
    """
    own, mixed = Path(source), folder / "mixed"
    # A cascade has no tokenizer, and stages of several sizes.
    parts = base.components
    parts = [parts["tokenizer"]] if "tokenizer" in parts else parts.values()
    size = max(getattr(part.config, "image_size", 0) for part in parts)
    shapes = getattr(base.layout, "shapes", ())
    if records.DATA_SET.owned(own) is None:
        own = folder / "images"
        if records.DATA_SET.owned(own) is None:
            unit = size // base["tokenizer"].config.grid if shapes else 0
            shapes = tuple((unit * rows, unit * columns) for rows, columns in shapes)
            output = Output(own, size, progress=progress, shapes=shapes)
            report = import_folder(source, output, val_fraction=_HELD_OUT)
            for name, reason in report.skipped:
                say(f"skipped {name}: {reason}")
    if not base_data:
        return own
    if records.DATA_SET.owned(mixed) is None:
        _mix(own, Path(base_data), size, mixed)
    return mixed


def _mix(own: Path, base: Path, size: int, out: Path) -> None:
    """All images of one set, and some of another to learn from, drawn at random."""
    counts = records.read_manifest(own).counts
    train, others = records.open_split(own, "train"), records.open_split(base, "train")
    count = min(round(len(train) * _MIXED / (1 - _MIXED)), len(others))
    picks = np.random.default_rng(0).choice(len(others), count, replace=False)
    with records.DatasetBuilder(out, "mixed", size, {s: 1 for s in counts}) as builder:
        for split in counts:
            source = records.open_split(own, split)
            for i in range(len(source)):
                builder.write(split, source[i])
        for i in sorted(picks.tolist()):
            found = others[i]
            named = dataclasses.replace(found, id=f"base: {found.id}")
            builder.write("train", named)
        builder.finish({"own": str(own), "base": str(base)})


def captions(data: Path, split: str) -> tuple[str, ...]:
    """One caption of each of the first images, none twice."""
    source = records.open_split(data, split)
    first = (source[i].captions[:1] for i in range(min(len(source), 10 * _PROMPTS)))
    found = dict.fromkeys(text for texts in first for _, text in texts)
    return tuple(found)[:_PROMPTS]
