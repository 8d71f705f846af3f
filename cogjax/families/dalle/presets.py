"""DALL-E (Ramesh et al. 2021): sizes of dVAE and transformer, and how they join.

`paper` is the 12B system. The other presets are ours: `nano` for tests, `px64` and
`small` for real use on one machine.
"""

from dataclasses import dataclass, fields
from typing import Literal

from cogjax.data.sequences import one_shape
from cogjax.families.dalle.layout import Layout, PaddedVocab
from cogjax.models.dvae import DVAEConfig
from cogjax.models.image_lm_config import ImageLMConfig
from cogjax.models.tokenizers import TokenizerConfig
from cogjax.nn.decoder_config import DecoderConfig
from cogjax.ops.masks import Grid, sparse_kinds
from cogjax.ops.sequence import Sequence

TEXT_LEN, NUM_PIECES = 256, 16384
# Section 2.3: 1,024 pairs an update, 430,000 updates.
BATCH_SIZE, STEPS = 1024, 430_000

TOKENIZERS = {
    # Appendix A.1: 256 px -> 32 x 32 of 8192 codes, 97,616,006 weights.
    "paper": DVAEConfig(),
    # One block a level: the gain of a branch, 1 / 16, lets it learn sooner than 1 / 64.
    "px64": DVAEConfig(image_size=64, grid=8, width=32, blocks=1, codebook_size=1024),
    "nano": DVAEConfig(
        image_size=16, grid=4, width=8, blocks=1, code_dim=8, codebook_size=32
    ),
}
RELEASED = TOKENIZERS["paper"]


@dataclass(frozen=True)
class TransformerConfig(DecoderConfig):
    """The transformer apart from what the two tokenizers decide.

    text_len: positions of the text. kernel: side of the last layer's convolution.
    images: 2 to learn pairs of `cogjax data pairs`, the second image from the first.
    The norms and their places are those of its sparse transformer; the paper says
    neither, nor any dropout.
    """

    dropout: float = 0.0
    alpha: float = 1.0
    sandwich: bool = False
    norm_scope: Literal["token", "sample", "tensor", "none"] = "none"
    text_len: int = TEXT_LEN
    kernel: int = 11
    images: Literal[1, 2] = 1

    def __post_init__(self):
        super().__post_init__()
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise ValueError(f"kernel is {self.kernel}, expected an odd number")
        if self.text_len < 2:
            raise ValueError(f"text_len is {self.text_len}, expected at least 2")
        if self.images > 1 and self.depth < 3:
            raise ValueError(
                "images is 2, and a column layer alone sees one from the other: set "
                "depth to 3 or more"
            )
        if self.window:
            raise ValueError("window is for full layers: set it to 0")


TRANSFORMERS = {
    # Appendix B.1: 64 layers, 62 heads of 64.
    "paper": TransformerConfig(
        width=3968,
        depth=64,
        heads=62,
        dtype="bfloat16",
        remat="nothing_saveable",
    ),
    "small": TransformerConfig(
        width=256, depth=7, heads=4, text_len=24, kernel=5, unroll=7
    ),
    "nano": TransformerConfig(width=32, depth=3, heads=2, text_len=8, kernel=3),
}


def make_layout(
    tokenizer: TokenizerConfig,
    num_text: int,
    transformer: TransformerConfig,
    shapes: tuple[Grid, ...] = (),
) -> Layout:
    """Sequence layout of a tokenizer's codes and `num_text` text pieces.

    shapes: (rows, columns) of images, () of the tokenizer's squares; ValueError for
    several.
    """
    rows, columns = one_shape(shapes) or 2 * (tokenizer.grid,)
    vocab = PaddedVocab(tokenizer.codebook_size, num_text, transformer.text_len)
    images = transformer.images
    return Layout(vocab, images * rows * columns, images, shapes=shapes)


def make_transformer(config: TransformerConfig, layout: Layout) -> ImageLMConfig:
    """Network config for a layout: codes have rows and columns, text positions."""
    shared = {
        field.name: getattr(config, field.name) for field in fields(DecoderConfig)
    }
    return ImageLMConfig(
        **shared,
        vocab_size=layout.vocab.padded_size,
        mlp_dim=4 * config.width,
        max_positions=layout.length,
        grid=layout.grid[1],
        sequence=Sequence.text_to_image(layout.text_len, layout.grid),
        kinds=sparse_kinds(config.depth, config.kernel),
    )
