"""The config of an `ImageLM`: sizes, visibility, and the kinds of its layers.

A config is hashable, and plain values all the way down: it can be saved as JSON and
read back by `cogjax.config.section`.
"""

from dataclasses import dataclass, field, replace

from cogjax.config import check_ranges
from cogjax.nn.decoder_config import DecoderConfig
from cogjax.ops.masks import FULL, Grid, LayerKind
from cogjax.ops.sequence import Sequence


@dataclass(frozen=True)
class ImageLMConfig(DecoderConfig):
    """Shape and numerics of the transformer.

    vocab_size: padded size of the unified vocabulary. max_positions: of text and codes;
    rows of the position table. grid: above 0 the codes have instead an embedding of
    their row and one of their column, of so many columns and `rows`, 0 as many as the
    image of `sequence`, and the table is the text's alone. A code's position is then
    that of the text's end + row * grid + column, of an image of fewer columns too.
    sequence: which segment sees which, for as many positions as there may be; it
    changes no parameter: `image_to_text` turns one direction into the other. kinds: one
    a layer, () is full attention in all of them. rotary: above 0 the codes have no
    embedding of their place and the text none, and queries and keys are turned by
    `ops/rotary.py` with that base. outputs: above 0 a head of its own scores so many
    first ids, else the table all of them. normed_head: that head has a norm of its own
    before it, and a bias. caption_dim: above 0 a text is vectors of so many channels,
    projected by an MLP; those of no text, `null_caption`, are learnt. With a `window`
    ids below `num_codes` are codes and an image has up to `image_len` of them, in one
    run; all other positions of `sequence` are pivots. reads: what follows a prompt is
    text, as `image_to_text` says, and no image.
    """

    vocab_size: int = 58240
    mlp_dim: int = 10240
    max_positions: int = 1089
    grid: int = 0
    sequence: Sequence = Sequence.causal(1089)
    kinds: tuple[LayerKind, ...] = ()
    rotary: float = field(default=0.0, metadata={"new": True})
    outputs: int = field(default=0, metadata={"new": True})
    normed_head: bool = field(default=False, metadata={"new": True})
    caption_dim: int = field(default=0, metadata={"new": True})
    rows: int = field(default=0, metadata={"new": True})
    num_codes: int = field(default=0, metadata={"new": True})
    image_len: int = field(default=0, metadata={"new": True})
    reads: bool = field(default=False, metadata={"new": True})

    def __post_init__(self):
        super().__post_init__()
        check_ranges(
            self,
            vocab_size=(1, 2**24),
            mlp_dim=(1, 2**18),
            max_positions=(1, 2**20),
            grid=(0, 1024),
            rotary=(0, 1e9),
            outputs=(0, 2**24),
            caption_dim=(0, 2**16),
            rows=(0, 1024),
            num_codes=(0, 2**24),
            image_len=(0, 2**20),
        )
        rows, columns = self.image_grid
        if columns != self.grid:
            raise ValueError(f"grid is {self.grid}, the sequence has {columns} columns")
        if rows * columns >= self.max_positions:
            raise ValueError(
                f"{rows} x {columns} codes leave no text of {self.max_positions} "
                "positions"
            )
        if self.normed_head and not self.outputs:
            raise ValueError("normed_head needs a head: set outputs")
        if self.rotary and (not self.grid or self.head_dim % 4):
            raise ValueError(
                f"rotary needs a grid, which is {self.grid}, and heads of a multiple "
                f"of 4 channels, which have {self.head_dim}"
            )
        if self.kinds and len(self.kinds) != self.depth:
            raise ValueError(f"{len(self.kinds)} kinds for {self.depth} layers")
        if self.window:
            self._check_window()

    def _check_window(self) -> None:
        if self.kinds or self.caption_dim or not self.sequence.is_causal:
            raise ValueError("window is for full layers of a causal sequence: set it 0")
        if not (self.num_codes and 0 < self.image_len < self.sequence.length):
            raise ValueError(
                f"window needs num_codes and image_len of its images, which are "
                f"{self.num_codes} and {self.image_len}: set window to 0"
            )
        least, most = self.num_others, self.sequence.length
        if not least < self.num_pivots <= most:
            raise ValueError(
                f"num_pivots is {self.num_pivots}, expected more than the {least} "
                f"positions of text and commands, which all are pivots, and up to the "
                f"{most} of a sequence"
            )

    @property
    def num_others(self) -> int:
        """Positions of `sequence` that are no codes, where layers have a window."""
        return self.sequence.length - self.image_len

    @property
    def image_pivots(self) -> int:
        """Pivots among `image_len` codes."""
        return self.num_pivots - self.num_others

    @property
    def layer_kinds(self) -> tuple[LayerKind, ...]:
        """The kind of each layer."""
        return self.kinds or (FULL,) * self.depth

    @property
    def table_positions(self) -> int:
        """Rows of the position table: positions that are not the image's."""
        rows, columns = self.image_grid
        return self.max_positions - rows * columns

    @property
    def image_grid(self) -> Grid:
        """(rows, columns) that have embeddings, (0, 0) where codes have positions."""
        if self.rows:
            return self.rows, self.grid
        image = self.sequence.image if self.grid else None
        return (0, 0) if image is None else image.grid


def image_to_text(
    config: ImageLMConfig, answer: int = 0, question: int = 0, count: int = 1
) -> ImageLMConfig:
    """The network, of the same parameters, that reads an image and writes text.

    config: of text to image. answer: positions of the written text, with the command
    that it starts with; 0 is as many as there are of text before an image. question:
    positions between the image and the answer, which see each other both ways. count:
    captions of an image in one sequence, or questions with their answers, for training.
    A causal decoder sees the same: its config changes where its caches do.
    """
    if config.sequence.is_causal:
        return replace(config, reads=True) if config.window else config
    text, image = config.sequence.segments
    sequence = Sequence.image_to_text(
        image.grid, answer or text.length, question, count
    )
    return replace(config, sequence=sequence)
