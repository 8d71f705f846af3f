"""Codes instead of images: the records that `cogjax encode` writes.

A record holds the codes of an image and its captions, a twentieth of the image's bytes.
The captions stay text, so that the text model may change. The sources here read such
records, or encode images, for the training of a transformer.
"""

import itertools
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import safetensors.numpy

from cogjax.data.aspects import Shape, scaled
from cogjax.data.records import (
    CODES,
    Example,
    Manifest,
    Split,
    decode_image,
    described,
    pack,
    read_manifest,
)
from cogjax.data.text import TextTokenizer
from cogjax.errors import UserError
from cogjax.files import write_atomic

MAX_CODEBOOK = 2**16  # Codes are stored in 16 bits.
AHEAD = 7  # batches that are read ahead where shapes differ, so that most are full


@dataclass(frozen=True)
class CodedExample:
    """One image as codes; the rest is as in `Example`.

    codes: int [n], row by row, of a square; int [rows, columns] in a set of several
    shapes, or of another one.
    """

    id: str
    codes: np.ndarray
    captions: tuple[tuple[str, str], ...]
    meta: dict[str, str] = field(default_factory=dict)
    questions: tuple[tuple[str, str, str], ...] = ()

    @property
    def shape(self) -> Shape | None:
        """(rows, columns) of codes, None where a square goes without saying."""
        return None if self.codes.ndim == 1 else self.codes.shape

    def pack(self) -> bytes:
        """Serialises the example; codes must be below 65,536."""
        shape = {} if self.shape is None else {"shape": list(self.shape)}
        return pack(vars(self) | shape | {"codes": self.codes.astype("<u2").tobytes()})

    @classmethod
    def unpack(cls, record: bytes) -> "CodedExample":
        """Reads a serialised example, codes int32; ValueError if it is none."""
        try:
            fields = msgpack.unpackb(record, strict_map_key=True)
            codes = np.frombuffer(fields["codes"], "<u2").astype(np.int32)
            if "shape" in fields:
                rows, columns = fields["shape"]
                codes = codes.reshape(rows, columns)
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

    texts: piece ids, as `captions_of` or `questions_of` gives them. codes: int [n, t],
    rows filled up with -1. shapes: (rows, columns) of each image's codes, int [n, 2],
    None where all are squares.
    """

    texts: tuple[tuple, ...]
    codes: np.ndarray
    shapes: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, index: int):
        codes = self.codes[index]
        if self.shapes is not None:
            rows, columns = self.shapes[index]
            codes = codes[: rows * columns].reshape(rows, columns)
        return self.texts[index], codes

    @classmethod
    def make(
        cls,
        source: Sequence[Example],
        encode: Callable[[np.ndarray], np.ndarray],
        side: "Side",
        texts: Callable[[Example], tuple],
        cache: Path,
    ) -> "CodedSource":
        """Encodes a split of images, or reads an earlier encoding from `cache`.

        encode: uint8 [b, y, x, 3] -> codes int32 [b, ...].
        """
        items = [source[i] for i in range(len(source))]
        found = tuple(map(texts, items))
        kept = _cached(cache)
        if kept is None or len(kept["codes"]) != len(items):
            kept = _encode(encode, items, side)
            kept["crc32"] = _crc32(kept["codes"])
            write_atomic(cache, safetensors.numpy.save(kept))
        return cls(found, kept["codes"], kept.get("shapes"))


@dataclass(frozen=True)
class ImagedSource:
    """A source of codes that also reads the pixels uint8 [y, x, 3] when asked."""

    coded: CodedSource
    source: Sequence[Example]
    side: "Side"

    def __len__(self) -> int:
        return len(self.coded)

    def __getitem__(self, index: int):
        return *self.coded[index], self.side.pixels(self.source[index])


@dataclass(frozen=True)
class Side:
    """How images are brought to a tokenizer: its squares, or shapes of as many pixels.

    size: pixels of the tokenizer's squares. unit: of a code. data_size: of the data
    set's squares, above 0 where not all of its images are squares.
    """

    size: int
    unit: int
    data_size: int = 0

    @classmethod
    def of(cls, manifest: Manifest, tokenizer: Any) -> "Side":
        """manifest: of images. tokenizer: its config."""
        own = tokenizer.image_size, tokenizer.image_size // tokenizer.grid
        return cls(*own, manifest.image_size if manifest.shapes else 0)

    def codes(self, shape: Shape) -> Shape:
        """(rows, columns) of the codes of an image (height, width)."""
        return scaled(shape, self.size / self.data_size, self.unit)

    def pixels(self, item: Example) -> np.ndarray:
        """What the tokenizer sees of an image: uint8 [y, x, 3]."""
        if not self.data_size:
            return decode_image(item.image, self.size)
        if item.shape is None:
            raise UserError("it is no PNG, as all images of a set of shapes are")
        rows, columns = self.codes(item.shape)
        return decode_image(item.image, (rows * self.unit, columns * self.unit))


def _cached(path: Path) -> dict[str, np.ndarray] | None:
    """Codes, and their shapes, as they were written to a cache, else None."""
    try:
        kept = safetensors.numpy.load_file(path)
        same = np.array_equal(kept["crc32"], _crc32(kept["codes"]))
    except (OSError, KeyError, safetensors.SafetensorError):
        return None
    return kept if same else None


def _crc32(codes: np.ndarray) -> np.ndarray:
    return np.array([zlib.crc32(np.ascontiguousarray(codes))], np.uint32)


def _encode(encode, items: Sequence[Example], side: Side) -> dict[str, np.ndarray]:
    """Fields "codes" and, of shapes, "shapes"; holds the pixels of a few batches."""
    found = list(in_shapes(map(side.pixels, items), encode))
    codes = np.full((len(found), max((x.size for x in found), default=0)), -1, np.int32)
    for row, one in zip(codes, found, strict=True):
        row[: one.size] = one.ravel()
    if not side.data_size:
        return {"codes": codes}
    return {"codes": codes, "shapes": np.array([x.shape for x in found], np.int32)}


def in_shapes(
    images: Iterable[np.ndarray],
    encode: Callable[[np.ndarray], np.ndarray],
    batch: int = 64,
) -> Iterator[np.ndarray]:
    """Codes [rows, columns] of each image uint8 [y, x, 3], in batches of one shape."""
    images = iter(images)
    while some := list(itertools.islice(images, batch)):
        if any(image.shape != some[0].shape for image in some):
            some += itertools.islice(images, AHEAD * batch)
        codes: dict[int, np.ndarray] = {}
        for part in of_one_shape(some, batch):
            found = encode(np.stack([some[i] for i in part]))
            codes.update(zip(part, np.asarray(found), strict=True))
        yield from (codes[i] for i in range(len(some)))


def of_one_shape(images: Sequence[np.ndarray], batch: int) -> Iterator[list[int]]:
    """Places of the images of each batch, all of a batch of one shape."""
    for shape in sorted({image.shape for image in images}):
        which = [i for i, image in enumerate(images) if image.shape == shape]
        for start in range(0, len(which), batch):
            yield which[start : start + batch]


def captions_of(text: TextTokenizer, item: Any) -> tuple:
    """Piece ids of each caption of an example."""
    return tuple(tuple(text.encode(caption)) for _, caption in item.captions)


def questions_of(text: TextTokenizer, item: Any) -> tuple:
    """(piece ids of a question, of its answer) of each question about an example."""
    return tuple(
        (tuple(text.encode(question)), tuple(text.encode(answer)))
        for _, question, answer in item.questions
    )
