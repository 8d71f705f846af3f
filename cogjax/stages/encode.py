"""Offline encoding: a data set of images to one of codes, by any number of processes.

How shards are written, lost and done again: `stages/sharded.py`.
"""

import functools
import itertools
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import jax
import numpy as np

from cogjax import model_folder
from cogjax.data import records
from cogjax.data.codes import MAX_CODEBOOK, CodedExample
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
    size, encoder = found.config.image_size, ("tokenizer", digest(found))
    made = records.CODES, size, encoder
    job = ShardedJob(Path(data), Path(out), source, *made, settings)
    step = _Step(found, settings.batch_size)
    prepare = functools.partial(_pixels, size)
    return encode_shards(job, prepare, step, process, progress)


def _pixels(size: int, item: records.Example) -> np.ndarray:
    return records.decode_image(item.image, size)


class _Step:
    """Images to codes on all devices of this process, in batches of one size."""

    def __init__(self, tokenizer: Component, batch_size: int):
        devices = jax.local_devices()
        self._size = batch_size * len(devices)
        self._encode = make_encoder(tokenizer, devices)

    def __call__(self, images: Iterable[Read]) -> Iterator[list[CodedExample]]:
        """One batch is at work on the devices while the one before is written."""
        rest, before = iter(images), None
        while group := list(itertools.islice(rest, self._size)):
            pixels = [image.value for image in group]
            pixels += pixels[:1] * (self._size - len(pixels))
            now = group, self._encode(np.stack(pixels))
            if before:
                yield _examples(*before)
            before = now
        if before:
            yield _examples(*before)


def _examples(images: list[Read], codes: jax.Array) -> list[CodedExample]:
    """Of codes int32 [b, grid, grid], the last of which may be padding."""
    return [
        CodedExample(
            image.item.id,
            row.ravel(),
            image.item.captions,
            image.item.meta,
            image.item.questions,
        )
        for image, row in zip(images, np.asarray(codes), strict=False)
    ]
