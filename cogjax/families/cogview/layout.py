"""Token sequences of CogView in both directions (section 2.1 and 3 of the paper).

    text to image   [ROI1] text [BASE] [BOI1] image [EOI1]           [PAD]...
    image to text   [BASE] [BOI1] image [EOI1] [ROI1] text [SEP]     [PAD]...

[SEP] after a caption is ours: CogView's captions have no end, so a model trained here
learns one. Padding comes last, so the causal mask alone hides it.

A model of images of several shapes, ours too, has an id of the shape in place of
[BASE]. A code's position is that of its row and column in a grid that holds them all.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from cogjax.data.sequences import Prompts, left_pad, shape_of
from cogjax.data.vocab import Vocab


@dataclass(frozen=True)
class Layout:
    """Fixed-length sequences over a vocabulary.

    text_len: longest text in pieces, longer text is cut. image_len: codes an image.
    fixed: codes have positions of their own, behind those of the longest text, in both
    directions, and the other tokens are counted without them. Otherwise all tokens are
    counted as they come, and a code's position depends on the length of the text.
    masked: the model fills in masked codes, all at once (`masked.py`), and has text to
    image alone; otherwise it predicts one token after the other. caption_len: above 0
    captions have so many pieces and no end, as the release writes them. enlarges: the
    model draws the codes of an image after those of a smaller one. shapes: (rows,
    columns) that an image may have, () of squares alone. which: of these that of the
    images at hand, whose codes are `image_len`; `of` chooses another.
    """

    vocab: Vocab
    text_len: int
    image_len: int
    fixed: bool = False
    masked: bool = False
    caption_len: int = 0
    enlarges: bool = False
    shapes: tuple[tuple[int, int], ...] = ()
    which: int = 0

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) of the codes of an image."""
        return shape_of(self.shapes[self.which :], self.image_len)

    @property
    def box(self) -> tuple[int, int]:
        """(rows, columns) of the grid that all shapes fit in."""
        rows, columns = zip(*(self.shapes or (self.shape,)), strict=True)
        return max(rows), max(columns)

    @property
    def places(self) -> np.ndarray:
        """Position of each code, less that of the first corner: int32 [image_len]."""
        (rows, columns), (_, width) = self.shape, self.box
        found = width * np.arange(rows)[:, None] + np.arange(columns)
        return found.ravel().astype(np.int32)

    def of(self, shape: tuple[int, int]) -> "Layout":
        """The layout for images of another of its shapes."""
        if shape == self.shape:
            return self
        rows, columns = shape
        which = self.shapes.index(shape)
        return replace(self, which=which, image_len=rows * columns)

    @property
    def shape_id(self) -> int:
        """Id in the place of [BASE]."""
        return self.vocab.shape(self.which)

    @property
    def length(self) -> int:
        """Tokens of a training sequence, the longer direction filled up."""
        return self.text_len + self.longest + 5

    @property
    def longest(self) -> int:
        """Codes of the image that has most."""
        codes = max((rows * columns for rows, columns in self.shapes), default=0)
        return max(codes, self.image_len)

    @property
    def prompt_len(self) -> int:
        """Tokens before an image, those of a shorter text filled up."""
        return self.text_len + 3

    @property
    def image_start(self) -> int:
        """Position of the first code where they are fixed, else 0."""
        return self.text_len + 4 if self.fixed else 0

    @property
    def reading_positions(self) -> np.ndarray:
        """Positions of an image-to-text sequence: int32 [length]."""
        positions = np.arange(self.length, dtype=np.int32)
        if self.fixed:
            # The end of the text is only ever a target.
            positions = np.minimum(positions - self.image_len, self.image_start - 1)
            positions[:2] = 0, 1
            positions[2 : 2 + self.image_len] = self.image_start + self.places
        return positions

    def prompts(self, texts: Sequence[Sequence[int]]) -> Prompts:
        """`prompt` of each text, all of one length."""
        rows = [self.prompt(text) for text in texts]
        pad = self.vocab.command("[PAD]")
        ids, num_padding = left_pad(rows, self.prompt_len, pad)
        positions = np.arange(ids.shape[1]) - num_padding[:, None]
        next_position = ids.shape[1] - num_padding
        if self.fixed:
            next_position = np.full_like(next_position, self.image_start)
        if len(self.shapes) > 1:  # A row may end before the next one begins.
            next_position = next_position[:, None] + self.places
        return Prompts(ids, num_padding, np.maximum(positions, 0), next_position)

    def caption_prompts(self, codes: np.ndarray) -> Prompts:
        """`caption_prompt` of each row of codes int [b, image_len]."""
        ids = np.array([self.caption_prompt(row) for row in codes], np.int32)
        positions = self.reading_positions[: ids.shape[1] + 1]
        next_position = np.full(len(ids), positions[-1])
        positions = np.broadcast_to(positions[:-1], ids.shape)
        return Prompts(ids, np.zeros(len(ids), np.int32), positions, next_position)

    def enlarging_prompts(
        self, texts: Sequence[Sequence[int]], codes: np.ndarray
    ) -> Prompts:
        """`prompt` of a text, codes int [b, n], `[EOI1] [ROI2] [POS0] [BASE] [BOI2]`.

        n is `small_len`.
        Positions begin anew behind [ROI2], which has the last of the first image. Those
        that are `fixed` go on, from that of the first code of the first image.
        """
        names = ("[EOI1]", "[ROI2]", "[POS0]", "[BASE]", "[BOI2]")
        end = [self.vocab.command(name) for name in names]
        pairs = zip(texts, codes.tolist(), strict=True)
        rows = [[*self.prompt(text), *row, *end] for text, row in pairs]
        length, pad = self.enlarging_len, self.vocab.command("[PAD]")
        ids, num_padding = left_pad(rows, length, pad)
        positions = np.maximum(np.arange(length) - num_padding[:, None], 0)
        if self.fixed:
            places = np.arange(self.image_start, self.large_start)
            positions[:, self.prompt_len :] = places
        else:
            positions[:, -3:] = 1, 2, 3
        next_position = np.full(len(ids), self.large_start)
        return Prompts(ids, num_padding, positions, next_position)

    @property
    def small_len(self) -> int:
        """Codes of the image that is enlarged: it has half the side."""
        return self.image_len // 4

    @property
    def enlarging_len(self) -> int:
        """Tokens before an image that enlarges another, those of its text filled up."""
        return self.prompt_len + self.small_len + 5

    @property
    def large_start(self) -> int:
        """Position of the first code of an image that enlarges another."""
        return self.image_start + self.small_len + 5 if self.fixed else 4

    def prompt(self, text_ids: Sequence[int]) -> list[int]:
        """`[ROI1] text [BASE] [BOI1]`: what comes before the image."""
        command = self.vocab.command
        text = self._text(text_ids)
        return [command("[ROI1]"), *text, self.shape_id, command("[BOI1]")]

    def caption_prompt(self, codes: Sequence[int]) -> list[int]:
        """`[BASE] [BOI1] image [EOI1] [ROI1]`: what comes before a caption."""
        command = self.vocab.command
        start = [self.shape_id, command("[BOI1]")]
        return [*start, *map(int, codes), command("[EOI1]"), command("[ROI1]")]

    def text_to_image(
        self, text_ids: Sequence[int], codes: Sequence[int], text_weight: float = 1.0
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns (ids int32 [length], loss weights float32 [length]).

        weights[i] is the weight of predicting ids[i].
        Parity: the weight follows the *input* token, so the first code counts as text
        and [EOI1] as image (CogView).
        tests/families/cogview/test_layout.py::test_text_weight
        """
        tokens = [*self.prompt(text_ids), *map(int, codes)]
        tokens.append(self.vocab.command("[EOI1]"))
        weights = [
            text_weight if token >= self.vocab.text_start else 1.0
            for token in tokens[:-1]
        ]
        return self._pad(tokens, [0.0, *weights])

    def image_to_text(
        self, text_ids: Sequence[int], codes: Sequence[int], caption_weight: float = 1.0
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns (ids int32 [length], loss weights float32 [length]).

        Only the caption and its end carry loss: the image is the condition.
        """
        source = self.caption_prompt(codes)
        target = [*self._text(text_ids), self.vocab.command("[SEP]")]
        weights = [0.0] * len(source) + [caption_weight] * len(target)
        return self._pad([*source, *target], weights)

    def _text(self, text_ids: Sequence[int]) -> list[int]:
        return [self.vocab.text_start + int(i) for i in text_ids[: self.text_len]]

    def _pad(self, tokens, weights):
        missing = self.length - len(tokens)
        ids = tokens + [self.vocab.command("[PAD]")] * missing
        weights = weights + [0.0] * missing
        return np.array(ids, np.int32), np.array(weights, np.float32)


@dataclass(frozen=True)
class Mixture:
    """How training examples are drawn from captioned code grids.

    image_to_text: share of examples in that direction, in [0, 1]. caption_dropout:
    share of text-to-image examples with an empty text, for classifier-free guidance.
    text_weight: loss weight of text in text to image. caption_weight: of a caption in
    image to text; a batch holds few caption tokens among many codes. code_noise: see
    `tasks/lm.py`.
    """

    image_to_text: float = 0.25
    caption_dropout: float = 0.1
    text_weight: float = 1.0
    caption_weight: float = 1.0
    code_noise: float = 0.0

    def example(
        self,
        layout: Layout,
        texts: Sequence[Sequence[int]],
        codes: np.ndarray,
        rng: np.random.Generator,
    ) -> dict[str, np.ndarray]:
        """Draws a caption and a direction: {"ids": [length], "weights": [length]}.

        codes: int [t] of a square, or [rows, columns].
        """
        codes = np.asarray(codes)
        shape = shape_of((), codes.size) if codes.ndim == 1 else codes.shape
        layout, codes = layout.of(shape), codes.ravel()
        text = texts[rng.integers(len(texts))]
        if rng.random() < self.image_to_text:
            ids, weights = layout.image_to_text(text, codes, self.caption_weight)
        else:
            if rng.random() < self.caption_dropout:
                text = ()
            ids, weights = layout.text_to_image(text, codes, self.text_weight)
        return {"ids": ids, "weights": weights}
