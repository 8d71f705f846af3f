"""Codes instead of pictures: the records that `cogjax encode` writes.

What a transformer's training needs of a picture, in a twentieth of the bytes: its codes
and its captions. The captions stay text, so that the text model may change.
"""

from dataclasses import dataclass, field

import msgpack
import numpy as np

from cogjax.data.records import Split
from cogjax.data.text import TextTokenizer

MAX_CODEBOOK = 2**16  # Codes are stored in 16 bits.


@dataclass(frozen=True)
class CodedExample:
    """One picture as codes int [n], row by row; the rest is as in `Example`."""

    id: str
    codes: np.ndarray
    captions: tuple[tuple[str, str], ...]
    meta: dict[str, str] = field(default_factory=dict)

    def pack(self) -> bytes:
        """Serialises the example; codes must be below 65,536."""
        fields = vars(self) | {"codes": self.codes.astype("<u2").tobytes()}
        return msgpack.packb(fields)

    @classmethod
    def unpack(cls, record: bytes) -> "CodedExample":
        """Reads a serialised example, codes int32; ValueError if it is none."""
        try:
            fields = msgpack.unpackb(record, strict_map_key=True)
            codes = np.frombuffer(fields["codes"], "<u2").astype(np.int32)
            captions = tuple((lang, text) for lang, text in fields["captions"])
            return cls(fields["id"], codes, captions, fields["meta"])
        except (KeyError, TypeError, ValueError, msgpack.UnpackException) as error:
            raise ValueError("the record is no coded example") from error


@dataclass(frozen=True)
class CodedRecords:
    """Random access to (caption piece ids of a picture, its codes), read when asked."""

    records: Split
    text: TextTokenizer

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int):
        item = self.records[index]
        texts = tuple(tuple(self.text.encode(caption)) for _, caption in item.captions)
        return texts, item.codes
