"""Texts as vectors: the records that `cogjax encode-text` writes.

A record holds the vectors of each caption of an image, in bfloat16 and without padding,
beside the captions themselves.
"""

from dataclasses import dataclass, field

import ml_dtypes
import msgpack
import numpy as np

from cogjax.data.records import described, pack

# Numbers of a record may be of any size.
_MISFITS = KeyError, TypeError, ValueError, OverflowError, msgpack.UnpackException


@dataclass(frozen=True)
class EmbeddedExample:
    """The captions of one image as vectors; the rest is as in `Example`.

    tokens: bfloat16 [n, d] of each caption, n its number of ids. pooled: bfloat16 [d]
    of each.
    """

    id: str
    captions: tuple[tuple[str, str], ...]
    tokens: tuple[np.ndarray, ...]
    pooled: tuple[np.ndarray, ...]
    meta: dict[str, str] = field(default_factory=dict)
    questions: tuple[tuple[str, str, str], ...] = ()

    def pack(self) -> bytes:
        """Serialises the example; all floats become bfloat16."""
        vectors = {name: _bytes(getattr(self, name)) for name in ("tokens", "pooled")}
        return pack(vars(self) | vectors | {"lengths": [len(x) for x in self.tokens]})

    @classmethod
    def unpack(cls, record: bytes) -> "EmbeddedExample":
        """Reads a serialised example; ValueError if it is none."""
        try:
            fields = msgpack.unpackb(record, strict_map_key=True)
            known, lengths = described(fields), fields["lengths"]
            tokens, pooled = (_array(fields[name]) for name in ("tokens", "pooled"))
            count = len(known["captions"])
            if len(lengths) != count or min(lengths, default=0) < 0:
                raise ValueError("lengths that are not those of the captions")
            if count and not len(pooled):
                raise ValueError("vectors of no channels")
            width = len(pooled) // max(count, 1)
            rows = tokens.reshape(sum(lengths), width)
            ends = np.cumsum(lengths, dtype=int)[:-1]
            return cls(
                tokens=tuple(np.split(rows, ends)) if lengths else (),
                pooled=tuple(pooled.reshape(len(lengths), width)),
                **known,
            )
        except _MISFITS as error:
            raise ValueError("the record holds no embeddings") from error


def _bytes(arrays: tuple[np.ndarray, ...]) -> bytes:
    return b"".join(x.astype(ml_dtypes.bfloat16).tobytes() for x in arrays)


def _array(stored: bytes) -> np.ndarray:
    found = np.frombuffer(stored, ml_dtypes.bfloat16)
    if not np.isfinite(found).all():
        raise ValueError("values that are no numbers (NaN, inf)")
    return found
