"""Offline work on a data set, shard by shard, by any number of processes.

    OUT/encoding.json                        what is encoded, with what, in which shards
    OUT/train-00000-of-00003.arrayrecord     what a range of the split became
    OUT/train-00000-of-00003.json            its count, checksum and bad examples
    OUT/manifest.json                        last: now it is a data set

Who encodes a shard changes none of its bytes. A shard is renamed into place when it is
whole, then described by its .json; one without, or that differs from it, is encoded
again. So a kill at any point loses at most the shards at work, and every example is
encoded exactly once.
"""

import contextlib
import functools
import json
import math
import os
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import grain

from cogjax.config import load_json, section
from cogjax.data import records
from cogjax.data.folder import MAX_LISTED, check_budget, printable
from cogjax.errors import UserError
from cogjax.files import file_sha256, write_atomic, write_new

_LABEL = "encoding"
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class EncodeSettings:
    """splits: names, None for all. batch_size: of a device and step. shard_size:
    examples a file. budget: share of them that may be bad; past it encoding stops.
    """

    splits: Sequence[str] | None = None
    batch_size: int = 64
    shard_size: int = 8192
    budget: float = 0.05


@dataclass(frozen=True)
class EncodeReport:
    """What one process did. manifest: None while shards of other processes are missing.

    encoded: examples of this call, in `seconds`. skipped: (name, reason) of the bad
    ones in this process's shards, of earlier calls too. done, shards: of all. cut:
    captions of this call of which the end was not read. unknown: those left out because
    the encoder reads next to nothing of them.
    """

    manifest: records.Manifest | None
    encoded: int
    seconds: float
    skipped: list[tuple[str, str]]
    done: int
    shards: int
    cut: int = 0
    unknown: int = 0


@dataclass(frozen=True)
class Shard:
    """Examples [start, stop) of a split; `stem` is its file name without suffix."""

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
    shape: dict[str, int] = field(default_factory=dict)

    @property
    def contents(self) -> dict[str, dict[str, int]]:
        """As `records.Contents.counts`."""
        names = ("style", "captions", "questions", "shape")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class ShardedJob:
    """One encoding: the same for all processes and all calls that work on it.

    kind, image_size: of the data set that is made. encoder: (what encodes, its digest).
    record: class of what is read.
    """

    data: Path
    out: Path
    source: records.Manifest
    kind: str
    image_size: int
    encoder: tuple[str, str]
    settings: EncodeSettings
    record: type = records.Example

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits that are encoded."""
        return tuple(self.settings.splits or self.source.counts)

    @property
    def shards(self) -> list[Shard]:
        """All shards in order, at least one a split."""
        return [shard for split in self.splits for shard in self._cut(split)]

    def _cut(self, split: str) -> Iterator[Shard]:
        count, size = self.source.counts[split], self.settings.shard_size
        total = max(1, math.ceil(count / size))
        for i in range(total):
            stem = f"{split}-{i:05d}-of-{total:05d}"
            yield Shard(split, i * size, min((i + 1) * size, count), stem)

    def claim(self) -> None:
        """Marks `out` as of this job; UserError if it is of another or of none."""
        name, digest = self.encoder
        mark = {
            "source": self.source.fingerprint,
            name: digest,
            "splits": list(self.splits),
            "shard_size": self.settings.shard_size,
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

    def path(self, shard: Shard) -> Path:
        """The shard's file; its .json stands beside it."""
        return self.out / f"{shard.stem}.arrayrecord"

    def finished(self, shard: Shard, whole: bool = False) -> _Part | None:
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
        return None if whole and part.checksum != file_sha256(path) else part

    def check(self, skipped: Sequence[tuple[str, str]]) -> None:
        """UserError if so many bad examples are over the budget."""
        if skipped:
            total = sum(self.source.counts[split] for split in self.splits)
            check_budget(skipped, self.settings.budget, total)


@dataclass(frozen=True)
class Read:
    """An example, and what was prepared of it; a bad one has a reason instead."""

    name: str
    item: Any = None
    value: Any = None
    reason: str = ""


Encode = Callable[[Iterable[Read]], Iterator[Sequence[Any]]]


def read_source(
    data: str | os.PathLike, settings: EncodeSettings, record: type = records.Example
) -> records.Manifest:
    """The manifest; UserError for a wrong name of a split or a lost shard."""
    source = records.read_manifest(data)
    for split in settings.splits or source.counts:
        records.open_split(data, split, record)
    return source


def encode_shards(
    job: ShardedJob,
    prepare: Callable[[Any], Any],
    encode: Encode,
    process: tuple[int, int] = (0, 1),
    progress: Progress | None = None,
) -> EncodeReport:
    """Encodes this process's shards; the one that finds all done writes the manifest.

    The same call goes on where a killed one ended. All processes must see one `out`.

    Args:
      prepare: what is worked out of each example, ahead and by threads; ValueError or
        UserError for a bad one.
      encode: the good examples of a shard -> new examples in their order, a few at a
        time.
      process: (i, n), this process takes the shards i, i + n, i + 2n, ...

    Raises:
      UserError: too many bad examples, or `out` holds something else.
    """
    job.claim()
    progress = progress or (lambda done, total, label: None)
    mine = job.shards[process[0] :: process[1]]
    total = sum(len(shard) for shard in mine)
    skipped: list[tuple[str, str]] = []
    seen = encoded = 0
    start = time.monotonic()
    progress(0, total, _LABEL)
    for shard in mine:
        part = job.finished(shard, whole=True)
        if part is None:
            written = functools.partial(_report, progress, seen, total)
            part = _write_shard(job, shard, prepare, encode, written)
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


def _report(progress: Progress, seen: int, total: int, count: int) -> None:
    progress(seen + count, total, _LABEL)


def _write_shard(
    job: ShardedJob,
    shard: Shard,
    prepare: Callable[[Any], Any],
    encode: Encode,
    progress: Callable[[int], None],
) -> _Part:
    """Writes a shard and its .json; `progress` gets the number of examples written."""
    path = job.path(shard)
    for left in job.out.glob(f".{shard.stem}.*"):
        left.unlink(missing_ok=True)  # A call that was killed left it.
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    skipped: list[tuple[str, str]] = []
    good = _good(_read_all(job, shard, prepare), skipped)
    count, contents = 0, records.Contents()
    with _writer(partial) as writer:
        for examples in encode(good):
            for example in examples:
                writer.write(example.pack())
                contents.add(example)
            count += len(examples)
            progress(count)
    identity = file_sha256(partial), records.mark(partial)
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


def _read_all(
    job: ShardedJob, shard: Shard, prepare: Callable[[Any], Any]
) -> Iterator[Read]:
    """The examples of a shard in order, read and prepared ahead by threads."""
    if not len(shard):
        return iter(())
    source = records.open_split(job.data, shard.split, job.record)
    read = functools.partial(_read, source, shard.split, prepare)
    threads = os.cpu_count() or 1
    dataset = grain.MapDataset.range(shard.start, shard.stop).map(read)
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=16 * threads)
    return iter(dataset.to_iter_dataset(options))


def _read(
    source: records.Split, split: str, prepare: Callable[[Any], Any], index: int
) -> Read:
    name = f"record {index} of {split}"
    try:
        item = source.read(index)
        name = printable(item.id)
        return Read(name, item, prepare(item))
    except (ValueError, UserError) as error:
        return Read(name, reason=printable(str(error)))


def _good(reads: Iterable[Read], skipped: list[tuple[str, str]]) -> Iterator[Read]:
    """The examples that can be encoded; the others are noted in `skipped`."""
    for read in reads:
        if read.reason:
            skipped.append((read.name, read.reason))
        else:
            yield read


def _finish(job: ShardedJob, parts: Mapping[Shard, _Part]) -> records.Manifest:
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
        job.encoder[0]: job.encoder[1],
        "skipped": [list(pair) for pair in skipped[:MAX_LISTED]],
        "num_skipped": len(skipped),
    }
    manifest = records.Manifest(
        job.kind,
        job.image_size,
        counts,
        checksums,
        records.fingerprint(checksums),
        info,
        records.contents_of(contents),
        ("encoding.json", *(f"{shard.stem}.json" for shard in parts)),
        {job.path(shard).name: part.mark for shard, part in parts.items()},
    )
    records.write_manifest(job.out, manifest)
    return manifest
