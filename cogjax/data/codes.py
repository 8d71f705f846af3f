"""Codes instead of images: the records that `cogjax encode` writes.

A record holds the codes of an image and its captions, a twentieth of the image's bytes.
The captions stay text, so that the text model may change. The sources here read such
records, or encode images, for the training of a transformer.
"""

import os
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import safetensors.numpy

from cogjax.data.records import (
    CODES,
    Example,
    Split,
    decode_image,
    described,
    pack,
    read_manifest,
)
from cogjax.data.text import TextTokenizer
from cogjax.files import write_atomic

MAX_CODEBOOK = 2**16  # Codes are stored in 16 bits.


@dataclass(frozen=True)
class CodedExample:
    """One image as codes int [n], row by row; the rest is as in `Example`."""

    id: str
    codes: np.ndarray
    captions: tuple[tuple[str, str], ...]
    meta: dict[str, str] = field(default_factory=dict)
    questions: tuple[tuple[str, str, str], ...] = ()

    def pack(self) -> bytes:
        """Serialises the example; codes must be below 65,536."""
        return pack(vars(self) | {"codes": self.codes.astype("<u2").tobytes()})

    @classmethod
    def unpack(cls, record: bytes) -> "CodedExample":
        """Reads a serialised example, codes int32; ValueError if it is none."""
        try:
            fields = msgpack.unpackb(record, strict_map_key=True)
            codes = np.frombuffer(fields["codes"], "<u2").astype(np.int32)
            return cls(codes=codes, **described(fields))
        except (KeyError, TypeError, ValueError, msgpack.UnpackException) as error:
            raise ValueError("the record is no coded example") from error


def record_of(data: str | os.PathLike) -> type:
    """Class of a data set's examples, where only their texts are read."""
    return CodedExample if read_manifest(data).kind == CODES else Example


@dataclass(frozen=True)
class CodedRecords:
    """Random access to (texts of an image, its codes), read when asked for.

    texts: `captions_of` or `questions_of`, with a text tokenizer.
    """

    records: Split
    texts: Callable[[Any], tuple]

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int):
        item = self.records[index]
        return self.texts(item), item.codes


@dataclass(frozen=True)
class CodedSource:
    """Random access to (texts of an image, its codes), all in memory.

    texts: piece ids, as `captions_of` or `questions_of` gives them. codes: int [n, t].
    """

    texts: tuple[tuple, ...]
    codes: np.ndarray

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, index: int):
        return self.texts[index], self.codes[index]

    @classmethod
    def make(
        cls,
        source: Sequence[Example],
        encode: Callable[[np.ndarray], np.ndarray],
        image_size: int,
        texts: Callable[[Example], tuple],
        cache: Path,
    ) -> "CodedSource":
        """Encodes a split of images, or reads an earlier encoding from `cache`.

        encode: uint8 [b, y, x, 3] -> codes int32 [b, ...].
        """
        items = [source[i] for i in range(len(source))]
        found = tuple(map(texts, items))
        codes = _cached(cache)
        if codes is None or len(codes) != len(items):
            codes = _encode(encode, items, image_size)
            kept = {"codes": codes, "crc32": _crc32(codes)}
            write_atomic(cache, safetensors.numpy.save(kept))
        return cls(found, codes)


@dataclass(frozen=True)
class ImagedSource:
    """A source of codes that also reads the pixels uint8 [size, size, 3] when asked."""

    coded: CodedSource
    source: Sequence[Example]
    size: int

    def __len__(self) -> int:
        return len(self.coded)

    def __getitem__(self, index: int):
        return *self.coded[index], decode_image(self.source[index].image, self.size)


def _cached(path: Path) -> np.ndarray | None:
    """Codes as they were written to a cache, else None."""
    try:
        kept = safetensors.numpy.load_file(path)
        same = np.array_equal(kept["crc32"], _crc32(kept["codes"]))
    except (OSError, KeyError, safetensors.SafetensorError):
        return None
    return kept["codes"] if same else None


def _crc32(codes: np.ndarray) -> np.ndarray:
    return np.array([zlib.crc32(np.ascontiguousarray(codes))], np.uint32)


def _encode(encode, items: Sequence[Example], size: int, batch: int = 64) -> np.ndarray:
    """Codes int32 [n, t]; holds the pixels of one batch at a time."""
    codes = []
    for start in range(0, len(items), batch):
        chunk = items[start : start + batch]
        found = encode(np.stack([decode_image(item.image, size) for item in chunk]))
        codes.append(found.reshape(len(chunk), -1))
    return np.concatenate(codes) if codes else np.zeros((0, 0), np.int32)


def captions_of(text: TextTokenizer, item: Any) -> tuple:
    """Piece ids of each caption of an example."""
    return tuple(tuple(text.encode(caption)) for _, caption in item.captions)


def questions_of(text: TextTokenizer, item: Any) -> tuple:
    """(piece ids of a question, of its answer) of each question about an example."""
    return tuple(
        (tuple(text.encode(question)), tuple(text.encode(answer)))
        for _, question, answer in item.questions
    )
