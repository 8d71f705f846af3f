"""The unified vocabulary of CogView: image codes, text pieces, command tokens."""

from dataclasses import dataclass

COMMANDS = (
    ("[PAD]", "[BOI1]", "[BOI2]", "[BOI3]", "[EOI1]", "[EOI2]", "[EOI3]")
    + ("[ROI1]", "[ROI2]", "[ROI3]", "[SEP]", "[MASK]", "[CLS]", "[ENC]")
    + ("[TINY]", "[SMALL]", "[BASE]", "[BIG]")
    + tuple(f"[POS{i}]" for i in range(9))
)


@dataclass(frozen=True)
class Vocab:
    """Ids in CogView's order: codes 0.., then text pieces, then the 27 commands.

    num_codes, num_text: sizes of the image and the text tokenizer. The embedding table
    is padded with unused rows to a multiple of `pad_to` (CogView release: 128).
    num_shapes: ids behind the commands, one for each shape of a model of several.
    """

    num_codes: int
    num_text: int
    pad_to: int = 128
    num_shapes: int = 0

    @property
    def text_start(self) -> int:
        """Id of text piece 0."""
        return self.num_codes

    @property
    def command_start(self) -> int:
        """Id of [PAD], the first command."""
        return self.num_codes + self.num_text

    @property
    def size(self) -> int:
        """Number of ids in use."""
        return self.command_start + len(COMMANDS) + self.num_shapes

    @property
    def padded_size(self) -> int:
        """Rows of the embedding table."""
        return -(-self.size // self.pad_to) * self.pad_to

    def command(self, name: str) -> int:
        """Id of a command such as "[BOI1]"; ValueError if there is none."""
        return self.command_start + COMMANDS.index(name)

    def shape(self, index: int) -> int:
        """Id of a shape, [BASE] where there is one alone."""
        if not self.num_shapes:
            return self.command("[BASE]")
        return self.command_start + len(COMMANDS) + index
