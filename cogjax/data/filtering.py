"""A data set with fewer examples: those that rules keep, and counts of the rest."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cogjax.data.filter_rules import Rule, Rules
from cogjax.data.images import decode_image
from cogjax.data.output import Progress
from cogjax.data.records import (
    DATA_SET,
    DatasetBuilder,
    Example,
    Manifest,
    Split,
    open_split,
    read_manifest,
)
from cogjax.errors import UserError
from cogjax.files import check_apart

_CHUNK = 64
NO_CAPTION = "no caption left"


@dataclass(frozen=True)
class Similarity:
    """The rule that a caption fits its image: ERNIE-ViLG keeps similarities above 0.5.

    score: (images uint8 [n, y, x, 3], texts) -> [n], lower is better. most: the highest
    that is kept.
    """

    score: Callable[[Sequence[np.ndarray], Sequence[str]], np.ndarray]
    most: float


@dataclass(frozen=True)
class FilterReport:
    """captions, images: how many of each were dropped by reason, in order of rules."""

    manifest: Manifest
    captions: dict[str, int]
    images: dict[str, int]


def filter_dataset(
    source: str | os.PathLike,
    out: str | os.PathLike,
    rules: Rules,
    *,
    similarity: Similarity | None = None,
    overwrite: bool = False,
    progress: Progress,
) -> FilterReport:
    """Writes the examples of `source` that the rules keep to a data set `out`.

    Rules of images come first; captions are judged one by one, and an image none of
    whose captions is left goes too. The first rule that is broken counts. Splits stay.

    Raises:
      UserError: nothing is left, or a folder is in the way. Nothing is written then.
    """
    check_apart(out, source)
    manifest, sieve = read_manifest(source), _Sieve(rules, similarity)
    splits = {split: open_split(source, split) for split in manifest.counts}
    total, done = sum(manifest.counts.values()), 0
    with _builder(manifest, out, overwrite) as builder:
        for split, examples in splits.items():
            for chunk in _chunks(examples):
                progress(done, total, "filtering")
                for example in sieve.keep(chunk):
                    builder.write(split, example)
                done += len(chunk)
        progress(total, total, "filtering")
        _check_left(total - sum(sieve.images.values()), sieve)
        for name in DATA_SET.owned(Path(source)) - {DATA_SET.head, *manifest.checksums}:
            # Licences, which hold for the rest too.
            builder.write_text(name, (Path(source) / name).read_text("utf-8"))
        told = asdict(rules) | ({"score": similarity.most} if similarity else {})
        dropped = {"captions": sieve.captions, "images": sieve.images}
        info = {
            "source": {"fingerprint": manifest.fingerprint, "info": manifest.info},
            "filter": {"rules": told, "dropped": dropped},
        }
        return FilterReport(builder.finish(info), **dropped)


def _builder(manifest: Manifest, out, overwrite: bool) -> DatasetBuilder:
    """Builder of a data set of the same kind, with as many shards of each split."""
    shards = {
        split: sum(name.startswith(f"{split}-") for name in manifest.checksums)
        for split in manifest.counts
    }
    return DatasetBuilder(out, manifest.kind, manifest.image_size, shards, overwrite)


class _Sieve:
    """Keeps and counts. captions, images: dropped by reason, 0 where none was."""

    def __init__(self, rules: Rules, similarity: Similarity | None):
        self._of_captions = tuple(rules.of_captions())
        self._of_images = tuple(rules.of_images())
        self._similarity = similarity
        self.captions = dict.fromkeys((why for why, _ in self._of_captions), 0)
        self.images = dict.fromkeys((why for why, _ in self._of_images), 0)
        if similarity:
            self._unlike = f"score above {similarity.most:g}"
            self.captions[self._unlike] = 0
        if self.captions:
            self.images[NO_CAPTION] = 0

    def keep(self, chunk: Sequence[Example]) -> list[Example]:
        """The examples that are left of some, with the captions that are left."""
        items = [x for x in chunk if _passes(x, self._of_images, self.images)]
        pairs = [
            (i, caption)
            for i, item in enumerate(items)
            for caption in item.captions
            if _passes(caption[1], self._of_captions, self.captions)
        ]
        if self._similarity and pairs:
            pairs = self._alike(items, pairs)
        left = [replace(item, captions=()) for item in items]
        for i, caption in pairs:
            left[i] = replace(left[i], captions=(*left[i].captions, caption))
        found = []
        for item, kept in zip(items, left, strict=True):
            if item.captions and not kept.captions:
                self.images[NO_CAPTION] += 1
            else:
                found.append(kept)
        return found

    def _alike(self, items: list[Example], pairs: list) -> list:
        """The (index of an image, caption) pairs that fit each other."""
        pixels = [decode_image(item.image) for item in items]
        texts = [text for _, (_, text) in pairs]
        scores = self._similarity.score([pixels[i] for i, _ in pairs], texts)
        kept = [pairs[i] for i in np.flatnonzero(scores <= self._similarity.most)]
        self.captions[self._unlike] += len(pairs) - len(kept)
        return kept


def _passes(item: Any, rules: Sequence[Rule], dropped: dict[str, int]) -> bool:
    """Whether no rule drops the item; the first that does counts it."""
    for reason, drops in rules:
        if drops(item):
            dropped[reason] += 1
            return False
    return True


def _chunks(examples: Split) -> Iterator[list[Example]]:
    for start in range(0, len(examples), _CHUNK):
        stop = min(start + _CHUNK, len(examples))
        yield [examples[i] for i in range(start, stop)]


def _check_left(left: int, sieve: _Sieve) -> None:
    if left:
        return
    counts = [f"{n} {why}" for why, n in (sieve.captions | sieve.images).items() if n]
    raise UserError(
        f"these rules leave no image ({', '.join(counts) or 'there was none'}): loosen "
        "them"
    )
