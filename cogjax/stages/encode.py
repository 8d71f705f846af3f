"""Offline encoding: a data set of images to one of codes, by any number of processes.

    OUT/encoding.json                        what is encoded, with what, in which shards
    OUT/train-00000-of-00003.arrayrecord     codes of a range of the split
    OUT/train-00000-of-00003.json            its count, checksum and bad images
    OUT/manifest.json                        last: now it is a data set

Who encodes a shard changes none of its bytes. A shard is renamed into place when it is
whole, then described by its .json; one without, or that differs from it, is encoded
again. So a kill at any point loses at most the shards at work, and every image is
encoded exactly once.
"""

import contextlib
import functools
import itertools
import json
import math
import os
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import grain
import jax
import numpy as np

from cogjax import model_folder
from cogjax.config import load_json, section
from cogjax.data import records
from cogjax.data.codes import MAX_CODEBOOK, CodedExample
from cogjax.data.folder import MAX_LISTED, check_budget, printable
from cogjax.errors import UserError
from cogjax.files import write_atomic, write_new
from cogjax.model import Component, digest
from cogjax.pipelines.tokenize import make_encoder

_LABEL = "encoding"


@dataclass(frozen=True)
class EncodeSettings:
    """splits: names, None for all. batch_size: images a device and step. shard_size:
    images a file. budget: share of all images that may be bad; past it encoding stops.
    """

    splits: Sequence[str] | None = None
    batch_size: int = 64
    shard_size: int = 8192
    budget: float = 0.05


@dataclass(frozen=True)
class EncodeReport:
    """What one process did. manifest: None while shards of other processes are missing.

    encoded: images of this call, in `seconds`. skipped: (name, reason) of the bad
    images in this process's shards, of earlier calls too. done, shards: of all.
    """

    manifest: records.Manifest | None
    encoded: int
    seconds: float
    skipped: list[tuple[str, str]]
    done: int
    shards: int


def encode_dataset(
    data: str | os.PathLike,
    tokenizer: str | os.PathLike,
    out: str | os.PathLike,
    settings: EncodeSettings = EncodeSettings(),
    *,
    process: tuple[int, int] = (0, 1),
    progress: Callable[[int, int, str], None] | None = None,
) -> EncodeReport:
    """Encodes this process's shards; the one that finds all done writes the manifest.

    The same call goes on where a killed one ended. All processes must see one `out`.

    Args:
      tokenizer: tokenizer or model folder, or the name of a shipped model.
      process: (i, n), this process takes the shards i, i + n, i + 2n, ...

    Raises:
      UserError: too many bad images, or `out` holds something else.
    """
    job = _Job.of(data, tokenizer, out, settings)
    job.claim()
    step = _Step(job.tokenizer, settings.batch_size)
    progress = progress or (lambda done, total, label: None)
    mine = job.shards[process[0] :: process[1]]
    total = sum(len(shard) for shard in mine)
    skipped: list[tuple[str, str]] = []
    seen = encoded = 0
    start = time.monotonic()
    for shard in mine:
        part = job.finished(shard, whole=True)
        if part is None:
            part = _encode_shard(
                job, shard, step, lambda n, seen=seen: progress(seen + n, total, _LABEL)
            )
            encoded += part.count
        else:
            progress(seen + len(shard), total, _LABEL)
        seen += len(shard)
        skipped += part.skipped
        job.check(skipped)
    seconds = time.monotonic() - start
    parts = {shard: job.finished(shard) for shard in job.shards}
    done = sum(part is not None for part in parts.values())
    manifest = _finish(job, parts) if done == len(parts) else None
    return EncodeReport(manifest, encoded, seconds, skipped, done, len(parts))


@dataclass(frozen=True)
class _Shard:
    """Images [start, stop) of a split; `stem` is its file name without suffix."""

    split: str
    start: int
    stop: int
    stem: str

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class _Part:
    """What the .json of a finished shard says; contents are counts."""

    count: int
    checksum: str
    mark: str
    skipped: tuple[tuple[str, str], ...]
    style: dict[str, int]
    captions: dict[str, int]
    questions: dict[str, int] = field(default_factory=dict)

    @property
    def contents(self) -> dict[str, dict[str, int]]:
        """As `records.Contents.counts`."""
        return {
            name: getattr(self, name) for name in ("style", "captions", "questions")
        }


@dataclass(frozen=True)
class _Job:
    """One encoding: the same for all processes and all calls that work on it."""

    data: Path
    out: Path
    source: records.Manifest
    tokenizer: Component
    digest: str
    splits: tuple[str, ...]
    shard_size: int
    budget: float

    @classmethod
    def of(cls, data, tokenizer, out, settings: EncodeSettings) -> "_Job":
        source = records.read_manifest(data)
        splits = tuple(settings.splits or source.counts)
        for split in splits:
            records.open_split(data, split)  # A wrong name or a lost shard fails now.
        found = model_folder.load_component(tokenizer, "tokenizer")
        if found.config.codebook_size > MAX_CODEBOOK:
            raise UserError(
                f"the codebook of {tokenizer} has {found.config.codebook_size} codes, "
                f"at most {MAX_CODEBOOK} can be stored"
            )
        where = Path(data), Path(out)
        sizes = splits, settings.shard_size, settings.budget
        return cls(*where, source, found, digest(found), *sizes)

    @property
    def shards(self) -> list[_Shard]:
        """All shards in order, at least one a split."""
        return [shard for split in self.splits for shard in self._cut(split)]

    def _cut(self, split: str) -> Iterator[_Shard]:
        count, size = self.source.counts[split], self.shard_size
        total = max(1, math.ceil(count / size))
        for i in range(total):
            stem = f"{split}-{i:05d}-of-{total:05d}"
            yield _Shard(split, i * size, min((i + 1) * size, count), stem)

    def claim(self) -> None:
        """Marks `out` as of this job; UserError if it is of another or of none."""
        mark = {
            "source": self.source.fingerprint,
            "tokenizer": self.digest,
            "splits": list(self.splits),
            "shard_size": self.shard_size,
        }
        path = self.out / "encoding.json"
        names = {p.name for p in self.out.iterdir()} if self.out.is_dir() else set()
        if not any(not name.startswith(".") for name in names):
            write_new(path, json.dumps(mark, indent=2) + "\n")
        elif path.name not in names:
            raise UserError(
                f"{self.out} is not empty and no encoding: choose another folder"
            )
        found = load_json(path)
        wrong = [name for name, value in mark.items() if found.get(name) != value]
        if wrong:
            raise UserError(
                f"{self.out} was begun with another {' and '.join(wrong)}: "
                f"choose another folder"
            )

    def path(self, shard: _Shard) -> Path:
        """The shard's file; its .json stands beside it."""
        return self.out / f"{shard.stem}.arrayrecord"

    def finished(self, shard: _Shard, whole: bool = False) -> _Part | None:
        """What is known of a shard that is as it was written, else None.

        whole: compares all of it, not its mark alone.
        """
        path = self.path(shard)
        if not (path.exists() and path.with_suffix(".json").exists()):
            return None
        try:
            part = section(_Part, load_json(path.with_suffix(".json")))
        except UserError:
            return None
        if part.mark != records.mark(path):
            return None
        return None if whole and part.checksum != records.checksum(path) else part

    def check(self, skipped: Sequence[tuple[str, str]]) -> None:
        """UserError if so many bad images are over the budget."""
        if skipped:
            total = sum(self.source.counts[split] for split in self.splits)
            check_budget(skipped, self.budget, total)


@dataclass(frozen=True)
class _Image:
    """An image as read: a bad one has a reason instead of pixels."""

    name: str
    item: records.Example | None = None
    pixels: np.ndarray | None = None
    reason: str = ""


class _Step:
    """Images to codes on all devices of this process, in batches of one size."""

    def __init__(self, tokenizer: Component, batch_size: int):
        devices = jax.local_devices()
        self.image_size = tokenizer.config.image_size
        self._size = batch_size * len(devices)
        self._encode = make_encoder(tokenizer, devices)

    def __call__(self, images: Iterable[_Image]):
        """Yields (images, codes int32 [b, grid, grid]); the last codes may be padded.

        One batch is at work on the devices while the one before is written.
        """
        rest, before = iter(images), None
        while group := list(itertools.islice(rest, self._size)):
            pixels = [image.pixels for image in group]
            pixels += pixels[:1] * (self._size - len(pixels))
            now = group, self._encode(np.stack(pixels))
            if before:
                yield before
            before = now
        if before:
            yield before


def _encode_shard(
    job: _Job, shard: _Shard, step: _Step, progress: Callable[[int], None]
) -> _Part:
    """Writes a shard and its .json; `progress` gets the number of images written."""
    path = job.path(shard)
    for left in job.out.glob(f".{shard.stem}.*"):
        left.unlink(missing_ok=True)  # Of a call that was killed.
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    skipped: list[tuple[str, str]] = []
    good = _good(_images(job.data, shard, step.image_size), skipped)
    count, contents = 0, records.Contents()
    with _writer(partial) as writer:
        for images, codes in step(good):
            for image, row in zip(images, np.asarray(codes), strict=False):
                item = image.item
                coded = CodedExample(
                    item.id, row.ravel(), item.captions, item.meta, item.questions
                )
                writer.write(coded.pack())
                contents.add(coded)
            count += len(images)
            progress(count)
    identity = records.checksum(partial), records.mark(partial)
    part = _Part(count, *identity, tuple(skipped), **contents.counts())
    os.replace(partial, path)
    # Last: without it the shard is encoded again.
    text = json.dumps(asdict(part), indent=2, ensure_ascii=False, sort_keys=True)
    write_atomic(path.with_suffix(".json"), text + "\n")
    return part


@contextlib.contextmanager
def _writer(path: Path):
    """An ArrayRecord file, one record a group: examples are read at random.

    It is removed again where writing it fails.
    """
    from array_record.python.array_record_module import ArrayRecordWriter

    try:
        writer = ArrayRecordWriter(str(path), "group_size:1")
        with contextlib.closing(writer):
            yield writer
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _images(data: Path, shard: _Shard, size: int) -> Iterator[_Image]:
    """The images of a shard in order, read and decoded ahead by threads."""
    if not len(shard):
        return iter(())
    source = records.open_split(data, shard.split)
    read = functools.partial(_read, source, shard.split, size)
    threads = os.cpu_count() or 1
    dataset = grain.MapDataset.range(shard.start, shard.stop).map(read)
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=16 * threads)
    return iter(dataset.to_iter_dataset(options))


def _read(source: records.Split, split: str, size: int, index: int) -> _Image:
    name = f"record {index} of {split}"
    try:
        item = source.read(index)
        name = printable(item.id)
        return _Image(name, item, records.decode_image(item.image, size))
    except (ValueError, UserError) as error:
        return _Image(name, reason=printable(str(error)))


def _good(images: Iterable[_Image], skipped: list[tuple[str, str]]) -> Iterator[_Image]:
    """The images that can be encoded; the others are noted in `skipped`."""
    for image in images:
        if image.reason:
            skipped.append((image.name, image.reason))
        else:
            yield image


def _finish(job: _Job, parts: Mapping[_Shard, _Part]) -> records.Manifest:
    """Writes the manifest over all shards, the same whoever does; checks the budget."""
    skipped = [pair for part in parts.values() for pair in part.skipped]
    job.check(skipped)
    checksums = {job.path(shard).name: part.checksum for shard, part in parts.items()}
    counts = dict.fromkeys(job.splits, 0)
    contents = {split: records.Contents() for split in job.splits}
    for shard, part in parts.items():
        counts[shard.split] += part.count
        contents[shard.split].add_counts(part.contents)
    info = {
        "source": {"fingerprint": job.source.fingerprint, "info": job.source.info},
        "tokenizer": job.digest,
        "skipped": [list(pair) for pair in skipped[:MAX_LISTED]],
        "num_skipped": len(skipped),
    }
    manifest = records.Manifest(
        records.CODES,
        job.tokenizer.config.image_size,
        counts,
        checksums,
        records.fingerprint(checksums),
        info,
        {split: found.counts() for split, found in contents.items()},
        ("encoding.json", *(f"{shard.stem}.json" for shard in parts)),
        {job.path(shard).name: part.mark for shard, part in parts.items()},
    )
    records.write_manifest(job.out, manifest)
    return manifest
