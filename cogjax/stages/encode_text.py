"""Offline encoding of texts: the captions of a data set, as vectors, once each.

How shards are written, lost and done again: `stages/sharded.py`.
"""

import dataclasses
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from cogjax.data import records
from cogjax.data.codes import record_of
from cogjax.data.embeddings import EmbeddedExample
from cogjax.model import Model
from cogjax.pipelines.text_encoder import TextEncoder, load_text_encoder
from cogjax.stages.sharded import (
    EncodeReport,
    EncodeSettings,
    Progress,
    Read,
    ShardedJob,
    encode_shards,
    read_source,
)


def encode_texts(
    data: str | os.PathLike,
    model: str | os.PathLike | Model,
    out: str | os.PathLike,
    settings: EncodeSettings,
    *,
    dtype: str | None = None,
    process: tuple[int, int] = (0, 1),
    progress: Progress | None = None,
) -> EncodeReport:
    """Encodes the captions of this process's shards, as `encode_shards` does.

    Args:
      data: data set of images, or one of codes: only its texts are read.
      model, dtype: as of `load_text_encoder`.

    Raises:
      UserError: too many bad examples, or `out` holds something else.
    """
    record = record_of(data)
    source = read_source(data, settings, record)
    devices = jax.local_devices()
    encoder = load_text_encoder(model, dtype, devices)
    made = records.EMBEDDINGS, source.image_size, ("text_encoder", encoder.digest)
    job = ShardedJob(Path(data), Path(out), source, *made, settings, record)
    step = _Step(encoder, settings.batch_size * len(devices))
    report = encode_shards(job, _nothing, step, process, progress)
    return dataclasses.replace(report, cut=step.cut, unknown=step.unknown)


def _nothing(item: Any) -> None:
    """Texts need no preparation."""


class _Step:
    """Captions to vectors, `size` at a time.

    cut: those read without their end. unknown: those left out, as the encoder cannot
    read them.
    """

    def __init__(self, encoder: TextEncoder, size: int):
        self._encoder, self._size, self.cut, self.unknown = encoder, size, 0, 0

    def __call__(self, reads: Iterable[Read]) -> Iterator[list[EmbeddedExample]]:
        rest = iter(reads)
        while group := [
            self._known(read.item) for read in itertools.islice(rest, self._size)
        ]:
            texts = [text for item in group for _, text in item.captions]
            vectors = self._vectors(texts)
            yield [_example(item, vectors) for item in group]

    def _known(self, item: Any) -> Any:
        """The example with the captions that can be read."""
        known = tuple(
            pair for pair in item.captions if not self._encoder.unknown(pair[1])
        )
        self.unknown += len(item.captions) - len(known)
        return dataclasses.replace(item, captions=known)

    def _vectors(self, texts: Sequence[str]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(tokens [n, d], pooled [d]) of each text, without padding."""
        for start in range(0, len(texts), self._size):
            batch = list(texts[start : start + self._size])
            self.cut += sum(bool(self._encoder.unread(text)) for text in batch)
            # Always one size: another is another program.
            filled = batch + [""] * (self._size - len(batch))
            found = [np.asarray(part) for part in self._encoder.encode(filled)]
            for i in range(len(batch)):
                tokens, mask, pooled = (part[i] for part in found)
                yield tokens[mask], pooled


def _example(item: Any, vectors: Iterator) -> EmbeddedExample:
    """The captions of an example with the next vectors."""
    own = list(itertools.islice(vectors, len(item.captions)))
    tokens, pooled = (tuple(pair[i] for pair in own) for i in range(2))
    return EmbeddedExample(
        item.id, item.captions, tokens, pooled, item.meta, item.questions
    )
