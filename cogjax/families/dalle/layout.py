"""Token sequences of DALL-E (section 2.2): text, filled up to one length, and an image.

    piece ... piece pad_k ... pad_255 | code ... code
    piece ... piece pad_k ... pad_255 | code ... code | code ... code    of a pair

The padding of each position is an id of its own, learnt, seen and predicted as any
other. There is no command: the last position of the text predicts the first code. The
paper names a token that starts the image and not its place.

The codes of a pair are one image of twice the rows: what is given, and below it the
same in another style, as the paper prompts (section 3.3).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from cogjax.data.bpe_dropout import BPEDropout
from cogjax.data.sequences import Prompts, shape_of


@dataclass(frozen=True)
class PaddedVocab:
    """Ids: codes 0.., then text pieces, then the padding of each text position.

    num_codes, num_text: sizes of the image and the text tokenizer. text_len: positions
    of the text. The embedding table has unused rows up to a multiple of `pad_to`.
    """

    num_codes: int
    num_text: int
    text_len: int
    pad_to: int = 128

    @property
    def text_start(self) -> int:
        """Id of text piece 0."""
        return self.num_codes

    @property
    def padding_start(self) -> int:
        """Id of the padding at position 0."""
        return self.num_codes + self.num_text

    @property
    def padded_size(self) -> int:
        """Rows of the embedding table."""
        return -(-(self.padding_start + self.text_len) // self.pad_to) * self.pad_to


@dataclass(frozen=True)
class Layout:
    """Fixed-length sequences over a vocabulary.

    image_len: codes of a sequence. images: how many images they are, one above the
    other, of which the last is learnt: 1, or 2 of pairs. styles: of a model of pairs,
    the words for what an image can be made into. shapes: (rows, columns) of an image,
    one, or () of squares.
    """

    vocab: PaddedVocab
    image_len: int
    images: Literal[1, 2] = 1
    styles: tuple[str, ...] = ()
    shapes: tuple[tuple[int, int], ...] = ()

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) of the codes of an image."""
        return shape_of(self.shapes, self.image_len // self.images)

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of all codes."""
        rows, columns = self.shape
        return self.images * rows, columns

    @property
    def text_len(self) -> int:
        """Positions of the text; longer text is cut."""
        return self.vocab.text_len

    @property
    def length(self) -> int:
        """Tokens of a sequence."""
        return self.text_len + self.image_len

    def prompt(self, text_ids: Sequence[int]) -> np.ndarray:
        """The text and its padding: int32 [text_len]."""
        ids = self.vocab.padding_start + np.arange(self.text_len, dtype=np.int32)
        text = np.asarray(text_ids[: self.text_len], np.int32)
        ids[: len(text)] = self.vocab.text_start + text
        return ids

    def prompts(self, texts: Sequence[Sequence[int]]) -> Prompts:
        """`prompt` of each text; nothing of it is hidden."""
        ids = np.stack([self.prompt(text) for text in texts])
        positions = np.broadcast_to(np.arange(self.text_len, dtype=np.int32), ids.shape)
        next_position = np.full(len(ids), self.text_len, np.int32)
        return Prompts(ids, np.zeros(len(ids), np.int32), positions, next_position)

    def text_to_image(
        self, text_ids: Sequence[int], codes: Sequence[int], text_share: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns (ids int32 [length], loss weights float32 [length]).

        weights[i] is the weight of predicting ids[i], 0 for the first and for the codes
        of an image that is given. Those of text add up to text_share, those of codes to
        the rest: the weighted mean of a batch is text_share x mean text loss +
        (1 - text_share) x mean image loss.
        """
        ids = np.concatenate([self.prompt(text_ids), np.ravel(codes).astype(np.int32)])
        weights = np.zeros(self.length, np.float32)
        weights[1 : self.text_len] = text_share / (self.text_len - 1)
        learnt = self.image_len // self.images
        weights[-learnt:] = (1 - text_share) / learnt
        return ids, weights


@dataclass(frozen=True)
class Mixture:
    """How training examples are drawn from captioned code grids.

    text_share: of the loss (section 2.2). bpe_dropout: rate, in training alone
    (appendix B.1). caption_dropout: share of examples with an empty text, for
    classifier-free guidance; not the paper's. code_noise: see `tasks/lm.py`; nor is it.
    """

    text_share: float = 1 / 8
    bpe_dropout: float = 0.1
    caption_dropout: float = 0.0
    code_noise: float = 0.0

    def __post_init__(self):
        for name, value in vars(self).items():
            if not 0 <= value < 1:
                raise ValueError(f"{name} is {value}, expected 0 to below 1")

    def example(
        self,
        layout: Layout,
        texts: Sequence[Sequence[int]],
        codes: np.ndarray,
        rng: np.random.Generator,
        drop: BPEDropout | None = None,
    ) -> dict[str, np.ndarray]:
        """Draws a caption: {"ids": [length], "weights": [length]}; drop: of pieces."""
        text = texts[rng.integers(len(texts))]
        if rng.random() < self.caption_dropout:
            text = ()
        text = drop(text, rng) if drop else text
        ids, weights = layout.text_to_image(text, codes, self.text_share)
        return {"ids": ids, "weights": weights}
