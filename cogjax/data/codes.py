"""Codes instead of pictures: the records that `cogjax encode` writes.

What a transformer's training needs of a picture, in a twentieth of the bytes: its codes
and its captions. The captions stay text, so that the text model may change.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgpack
import numpy as np

from cogjax.data.records import Split, pack, texts_of
from cogjax.data.text import TextTokenizer

MAX_CODEBOOK = 2**16  # Codes are stored in 16 bits.


@dataclass(frozen=True)
class CodedExample:
    """One picture as codes int [n], row by row; the rest is as in `Example`."""

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
            return cls(fields["id"], codes, meta=fields["meta"], **texts_of(fields))
        except (KeyError, TypeError, ValueError, msgpack.UnpackException) as error:
            raise ValueError("the record is no coded example") from error


@dataclass(frozen=True)
class CodedRecords:
    """Random access to (texts of a picture, its codes), read when asked for.

    texts: `captions_of` or `questions_of`, with a text tokenizer.
    """

    records: Split
    texts: Callable[[Any], tuple]

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int):
        item = self.records[index]
        return self.texts(item), item.codes


def captions_of(text: TextTokenizer, item: Any) -> tuple:
    """Piece ids of each caption of an example."""
    return tuple(tuple(text.encode(caption)) for _, caption in item.captions)


def questions_of(text: TextTokenizer, item: Any) -> tuple:
    """(piece ids of a question, of its answer) of each question about an example."""
    return tuple(
        (tuple(text.encode(question)), tuple(text.encode(answer)))
        for _, question, answer in item.questions
    )
