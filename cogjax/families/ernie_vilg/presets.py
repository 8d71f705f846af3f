"""ERNIE-ViLG (Zhang et al. 2021): one transformer that draws and describes.

`paper` is the 10B transformer of section 3.1; the other presets are ours. What the
paper does not state is a setting here, with the default that docs/ernie_vilg.md lists.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np

from cogjax.config import section
from cogjax.data.sequences import one_shape
from cogjax.data.vocab import Vocab
from cogjax.errors import UserError
from cogjax.families.ernie_vilg.layout import TwoWayLayout
from cogjax.models.image_lm_config import ImageLMConfig
from cogjax.models.tokenizers import TokenizerConfig
from cogjax.nn.decoder_config import DecoderConfig
from cogjax.ops.masks import Grid, sparse_kinds
from cogjax.ops.sequence import Sequence

# The longest text and its command, and a vocabulary: not stated in the paper.
TEXT_LEN, NUM_PIECES = 128, 32_000
GRID, NUM_CODES = 32, 8192
# Not stated in the paper: as CogView's.
BATCH_SIZE, STEPS = 6144, 144_000


@dataclass(frozen=True)
class TransformerConfig(DecoderConfig):
    """The transformer apart from what the two tokenizers decide.

    text_len: longest text in pieces. attention: "sparse" layers by rows, columns and
    windows of `kernel` x `kernel` in turn (`sparse_kinds`), or all "full". row_extent:
    "own" is a row as a block of its own, "raster" DALL-E's last `grid + 1` codes. edge:
    of a window, as `LayerKind` has it: "raster" runs over the ends of rows, in both
    directions, "clip" stops there. kernel: side of a window.
    """

    width: int = 4096
    depth: int = 48
    heads: int = 64
    norm_scope: Literal["token", "sample", "tensor", "none"] = "none"
    sandwich: bool = False
    text_len: int = TEXT_LEN - 1
    attention: Literal["sparse", "full"] = "sparse"
    row_extent: Literal["own", "raster"] = "own"
    edge: Literal["raster", "clip", "torus"] = "raster"
    kernel: int = 11

    def __post_init__(self):
        super().__post_init__()
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise ValueError(f"kernel is {self.kernel}, expected an odd number")
        if self.implementation == "cudnn":
            raise ValueError(
                "implementation 'cudnn' cannot hide text: choose 'auto' or 'xla'"
            )
        if self.window:
            raise ValueError("window is for a causal sequence: set it to 0")


TRANSFORMERS = {
    "paper": TransformerConfig(dtype="bfloat16", remat="nothing_saveable"),
    "small": TransformerConfig(
        width=256, depth=6, heads=4, text_len=16, dropout=0.0, unroll=6
    ),
    "nano": TransformerConfig(width=32, depth=2, heads=2, text_len=8, dropout=0.0),
}


def make_layout(
    tokenizer: TokenizerConfig,
    num_text: int,
    transformer: TransformerConfig,
    shapes: tuple[Grid, ...] = (),
) -> TwoWayLayout:
    """Sequence layout of a tokenizer's codes and `num_text` text pieces.

    shapes: (rows, columns) of images, () of the tokenizer's squares; ValueError for
    several.
    """
    rows, columns = one_shape(shapes) or 2 * (tokenizer.grid,)
    vocab = Vocab(tokenizer.codebook_size, num_text)
    return TwoWayLayout(vocab, transformer.text_len, rows * columns, shapes)


def paper_layout(transformer: TransformerConfig) -> TwoWayLayout:
    """The paper's 32 x 32 codes and a vocabulary, where there are no tokenizers."""
    vocab = Vocab(NUM_CODES, NUM_PIECES)
    return TwoWayLayout(vocab, transformer.text_len, GRID**2)


def make_transformer(
    config: TransformerConfig, layout: TwoWayLayout | None = None
) -> ImageLMConfig:
    """Network of text to image; `image_to_text` of it is its reverse.

    layout: None is `paper_layout`.
    """
    shared = {
        field.name: getattr(config, field.name) for field in fields(DecoderConfig)
    }
    layout = layout or paper_layout(config)
    kinds = ()
    if config.attention == "sparse":
        kinds = sparse_kinds(
            config.depth, config.kernel, config.row_extent, config.edge
        )
    return ImageLMConfig(
        **shared,
        vocab_size=layout.vocab.padded_size,
        mlp_dim=4 * config.width,
        max_positions=layout.num_text + layout.image_len,
        grid=layout.shape[1],
        sequence=Sequence.text_to_image(layout.num_text, layout.shape, "all"),
        kinds=kinds,
    )


def format_1(
    settings: Mapping[str, Any], tokenizer: TokenizerConfig, num_text: int
) -> tuple[TwoWayLayout, ImageLMConfig]:
    """What the settings of a `TransformerConfig` in folders of format 1 mean."""
    config = section(TransformerConfig, settings, "transformer")
    layout = make_layout(tokenizer, num_text, config)
    return layout, make_transformer(config, layout)


def start_from(
    params: dict[str, Any], layout: Any, network: ImageLMConfig
) -> dict[str, Any]:
    """A trained transformer's parameters as a start for `network`.

    params, layout: of an ERNIE-ViLG, or of a model whose table of positions has a fixed
    place for each code: a CogView with `positions` "fixed". Positions behind its texts,
    if they were shorter, are drawn as for a new network.

    Raises UserError for a CogView without such places or with another grid.
    """
    if "row_embedding" not in params:
        rows, columns = network.image_grid
        fixed = getattr(layout, "fixed", False) and len(layout.shapes) < 2
        if not fixed or layout.shape != (rows, columns):
            raise UserError(
                "ERNIE-ViLG cannot start from these weights: expected a CogView with "
                f"positions 'fixed' and codes of {rows} x {columns}"
            )
        params = from_cogview(params, layout.text_len, layout.shape)
    held = params["position_embedding"]
    missing = max(0, network.table_positions - len(held))
    drawn = np.random.default_rng(0).normal(0, 0.02, (missing, *held.shape[1:]))
    drawn = drawn.astype(held.dtype)
    return {**params, "position_embedding": np.concatenate([held, drawn])}


def from_cogview(params: dict[str, Any], text_len: int, shape: Grid) -> dict[str, Any]:
    """CogView's parameters as a start for a network of its sizes, in both directions.

    params: of a CogView with `positions` "fixed" and texts of `text_len`, before codes
    of a shape. What its table of positions says of a code's row and of its
    column is kept, what it says of the two together is not.
    """
    table = np.asarray(params["position_embedding"])
    rows, columns = shape
    codes = table[-rows * columns :].reshape(rows, columns, -1)
    return {
        **params,
        "position_embedding": table[: text_len + 1],
        "row_embedding": codes.mean(axis=1),
        "column_embedding": codes.mean(axis=0) - codes.mean(axis=(0, 1)),
    }
