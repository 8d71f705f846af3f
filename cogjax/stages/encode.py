"""Offline encoding: a data set of images to one of codes, by any number of processes.

How shards are written, lost and done again: `stages/sharded.py`.
"""

import itertools
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import jax
import numpy as np

from cogjax import model_folder
from cogjax.data import records
from cogjax.data.codes import AHEAD, MAX_CODEBOOK, CodedExample, Side, of_one_shape
from cogjax.errors import UserError
from cogjax.model import Component, digest
from cogjax.pipelines.tokenize import make_encoder
from cogjax.stages.sharded import (
    EncodeReport,
    EncodeSettings,
    Progress,
    Read,
    ShardedJob,
    encode_shards,
    read_source,
)


def encode_dataset(
    data: str | os.PathLike,
    tokenizer: str | os.PathLike,
    out: str | os.PathLike,
    settings: EncodeSettings,
    *,
    process: tuple[int, int] = (0, 1),
    progress: Progress | None = None,
) -> EncodeReport:
    """Encodes this process's shards of images, as `encode_shards` does.

    Args:
      tokenizer: tokenizer or model folder, or the name of a shipped model.

    Raises:
      UserError: too many bad images, or `out` holds something else.
    """
    source = read_source(data, settings)
    found = model_folder.load_component(tokenizer, "tokenizer")
    if found.config.codebook_size > MAX_CODEBOOK:
        raise UserError(
            f"the codebook of {tokenizer} has {found.config.codebook_size} codes, "
            f"at most {MAX_CODEBOOK} can be stored"
        )
    encoder = "tokenizer", digest(found)
    made = records.CODES, found.config.image_size, encoder
    job = ShardedJob(Path(data), Path(out), source, *made, settings)
    side = Side.of(source, found.config)
    step = _Step(found, settings.batch_size, bool(source.shapes))
    return encode_shards(job, side.pixels, step, process, progress)


class _Step:
    """Images to codes on all devices of this process, in batches of one size.

    shapes: whether images are of several shapes, or of another one than a square.
    """

    def __init__(self, tokenizer: Component, batch_size: int, shapes: bool):
        devices = jax.local_devices()
        self._size, self._shapes = batch_size * len(devices), shapes
        self._encode = make_encoder(tokenizer, devices)

    def __call__(self, images: Iterable[Read]) -> Iterator[list[CodedExample]]:
        """One batch is at work on the devices while the one before is written."""
        rest, before = iter(images), None
        while group := list(itertools.islice(rest, self._size)):
            if self._shapes:
                group += itertools.islice(rest, AHEAD * self._size)
            now = group, list(self._begun([image.value for image in group]))
            if before:
                yield self._examples(*before)
            before = now
        if before:
            yield self._examples(*before)

    def _begun(self, images: list[np.ndarray]) -> Iterator[tuple[list[int], jax.Array]]:
        """(places of a batch, its codes int32 [b, y, x], at the end maybe padding)."""
        for part in of_one_shape(images, self._size):
            pixels = [images[i] for i in part]
            pixels += pixels[:1] * (self._size - len(pixels))
            yield part, self._encode(np.stack(pixels))

    def _examples(self, images: list[Read], found: list) -> list[CodedExample]:
        codes: dict[int, np.ndarray] = {}
        for part, rows in found:
            codes.update(zip(part, np.asarray(rows), strict=False))
        return [
            CodedExample(
                image.item.id,
                codes[i] if self._shapes else codes[i].ravel(),
                image.item.captions,
                image.item.meta,
                image.item.questions,
            )
            for i, image in enumerate(images)
        ]
