"""The config of an `EncoderDecoder`: sizes, and how the codes begin."""

from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from cogjax.config import check_ranges
from cogjax.nn.stack import Remat

# Not in the digests of models that are older.
_new = partial(field, metadata={"new": True})


@dataclass(frozen=True)
class EncoderDecoderConfig:
    """Sizes of both halves; the defaults are DALL-E mini's.

    depth: layers of each half. mlp_dim: of each of the two products of the gate.
    text_vocab_size, text_len: rows of the tables of text pieces and text positions;
    vocab_size, image_len: of those of codes. start: the id before the first code.
    all_scales: norms before a product have a scale too; otherwise only a bias. dtype:
    of the activations; parameters are float32. remat: see `nn/stack.py`.
    """

    width: int = 1024
    depth: int = 12
    heads: int = 16
    mlp_dim: int = 2730
    text_vocab_size: int = 50264
    text_len: int = 64
    vocab_size: int = 16385
    image_len: int = 256
    start: int = 16384
    all_scales: bool = False
    dtype: Literal["float32", "bfloat16"] = _new(default="float32")
    remat: Remat = _new(default="none")

    def __post_init__(self):
        check_ranges(
            self,
            width=(1, 2**16),
            depth=(1, 1024),
            heads=(1, 2**16),
            mlp_dim=(1, 2**20),
            text_vocab_size=(1, 2**24),
            text_len=(1, 2**16),
            vocab_size=(1, 2**24),
            image_len=(1, 2**20),
            start=(0, self.vocab_size - 1),
        )
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is no multiple of heads {self.heads}")

    @property
    def head_dim(self) -> int:
        """Channels of a head."""
        return self.width // self.heads
