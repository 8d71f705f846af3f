"""Which part of a sequence sees which: segments in order, said once for all layers.

    text to image     text causal (DALL-E) or all (ERNIE-ViLG) | image causal, sees text
    image to text     image all | question all, sees image | answer causal, sees both

What depends on the layer is a `LayerKind`, and which positions of a row are padding is
an array; neither is part of a `Sequence`, which is hashable and static in programs.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from cogjax.ops.masks import FULL, Grid, LayerKind, image_mask


@dataclass(frozen=True)
class Segment:
    """A run of positions, text or an image.

    within: how it sees itself; "causal" is each position and those before it. The kind
    of a layer restricts an image further. sees: indices of earlier segments that it
    sees whole. grid: (rows, columns) of an image, None of text. A causal image may lack
    its last positions: a training input has no last token.
    """

    length: int
    within: Literal["causal", "all"] = "causal"
    sees: tuple[int, ...] = ()
    grid: Grid | None = None

    def __post_init__(self):
        if self.within not in ("causal", "all"):
            raise ValueError(f"within is {self.within!r}, expected 'causal' or 'all'")
        if self.length < 1:
            raise ValueError(f"a segment of {self.length} positions, at least 1")
        if self.grid is None:
            return
        rows, cols = self.grid
        if min(rows, cols) < 1:
            raise ValueError(f"a grid of {rows} x {cols} has no positions")
        cut = self.length < rows * cols and self.within == "causal"
        if self.length != rows * cols and not cut:
            raise ValueError(f"{self.length} positions are no {rows} x {cols} image")

    @property
    def causal(self) -> bool:
        """Whether a position sees nothing behind it in its segment."""
        return self.within == "causal"

    def mask(self, kind: LayerKind = FULL) -> np.ndarray:
        """bool [t, t] of the segment among itself."""
        if self.grid is not None:
            mask = image_mask(kind, self.grid, causal=self.causal)
            # A cut image is causal, so no position misses what it saw.
            return mask[: self.length, : self.length]
        shape = (self.length, self.length)
        return np.tri(*shape, dtype=bool) if self.causal else np.ones(shape, bool)


@dataclass(frozen=True)
class Sequence:
    """Segments in order; the last is what is sampled after a prompt of the others."""

    segments: tuple[Segment, ...]

    def __post_init__(self):
        for i, segment in enumerate(self.segments):
            if not all(0 <= seen < i for seen in segment.sees):
                raise ValueError(
                    f"segment {i} sees {segment.sees}, expected earlier segments"
                )

    @classmethod
    def causal(cls, length: int) -> "Sequence":
        """Each position sees itself and all before it (CogView)."""
        return cls((Segment(length),))

    @classmethod
    def text_to_image(
        cls,
        num_text: int,
        grid: Grid,
        text: Literal["causal", "all"] = "causal",
        image: Literal["causal", "all"] = "causal",
    ) -> "Sequence":
        """An image that sees its text and itself.

        text: "causal" is DALL-E's, "all" ERNIE-ViLG's. Commands count as text. image:
        "all" is MaskGIT's, whose codes are predicted beside each other.
        """
        rows, cols = grid
        codes = Segment(rows * cols, image, (0,), grid)
        return cls((Segment(num_text, text), codes))

    @classmethod
    def image_to_text(
        cls, grid: Grid, answer: int, question: int = 0, count: int = 1
    ) -> "Sequence":
        """An image and `count` texts that see it and nothing of each other.

        question: so many first positions of each text see each other both ways.
        answer: what follows sees the question and, causally, itself; a caption if there
        is no question. One of the two may be 0.
        """
        rows, cols = grid
        segments = [Segment(rows * cols, "all", grid=grid)]  # sees no text
        for _ in range(count):
            sees = (0,)  # the image, and no other text
            if question:
                segments.append(Segment(question, "all", sees))
                sees += (len(segments) - 1,)
            if answer:
                segments.append(Segment(answer, "causal", sees))
        return cls(tuple(segments))

    @property
    def length(self) -> int:
        """Positions."""
        return sum(segment.length for segment in self.segments)

    @property
    def starts(self) -> tuple[int, ...]:
        """First position of each segment."""
        ends = np.cumsum([segment.length for segment in self.segments])
        return (0, *map(int, ends[:-1]))

    @property
    def image(self) -> Segment | None:
        """The first image."""
        return next((x for x in self.segments if x.grid is not None), None)

    @property
    def is_causal(self) -> bool:
        """Whether every position sees itself and all before it, in a full layer."""
        return all(
            segment.causal and segment.sees == tuple(range(i))
            for i, segment in enumerate(self.segments)
        )

    @property
    def starts_with_image(self) -> bool:
        """Whether text follows an image, and padding of the text stands behind it."""
        return self.segments[0].grid is not None

    def first(self, length: int) -> "Sequence":
        """The sequence of the first `length` positions.

        Raises:
          ValueError: there are fewer, or they end in a segment that sees itself both
            ways, whose positions would lose what they see.
        """
        kept, rest = [], length
        for segment in self.segments:
            taken = min(rest, segment.length)
            if 0 < taken < segment.length and not segment.causal:
                rest = -1
            if rest <= 0:
                break
            kept.append(replace(segment, length=taken))
            rest -= taken
        if rest or not kept:
            lengths = " + ".join(str(segment.length) for segment in self.segments)
            raise ValueError(f"{length} positions are no start of a sequence {lengths}")
        return Sequence(tuple(kept))

    def mask(self, kind: LayerKind = FULL) -> np.ndarray:
        """bool [s, s], query and key: the oracle that all forms are tested against.

        It is for tests and for counting, no constant of a large program.
        """
        mask = np.zeros((self.length, self.length), bool)
        own = [  # positions of each segment
            slice(start, start + segment.length)
            for start, segment in zip(self.starts, self.segments, strict=True)
        ]
        for at, segment in zip(own, self.segments, strict=True):
            mask[at, at] = segment.mask(kind)  # the only place where layers differ
            for seen in segment.sees:
                mask[at, own[seen]] = True
        return mask
