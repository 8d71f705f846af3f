"""CogView (Ding et al. 2021): sizes of tokenizer and transformer, and how they join.

`paper` is the released 4B system, `release` its transformer as the public code computes
it, `fashion` the 3B one of images of 800 px. The other presets are ours: `nano` for
tests, `px64`, `px72` and `px128` for real use on one machine.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from cogjax.config import section
from cogjax.data.vocab import Vocab
from cogjax.families.cogview.layout import Layout
from cogjax.models.image_lm_config import ImageLMConfig
from cogjax.models.tokenizers import TokenizerConfig
from cogjax.models.vqgan import VQGANConfig
from cogjax.models.vqvae import VQVAEConfig
from cogjax.nn.decoder_config import DecoderConfig
from cogjax.ops.masks import Grid
from cogjax.ops.sequence import Sequence

_HALF = {"pixel_mean": (0.5, 0.5, 0.5), "pixel_std": (0.5, 0.5, 0.5)}

TOKENIZERS = {
    # Section 2.2 and the release: 256 px -> 32 x 32 of 8192 codes, 19,034,883 weights.
    "paper": VQVAEConfig(),
    "px128": VQVAEConfig(
        image_size=128,
        widths=(32, 128, 256),
        code_dim=64,
        codebook_size=4096,
        strides=(2, 2, 2),
        res_blocks=2,
        res_width=96,
        **_HALF,
    ),
    "px72": VQVAEConfig(
        image_size=72,
        widths=(24, 160),
        code_dim=32,
        codebook_size=1024,
        strides=(3, 2),
        res_blocks=2,
        res_width=64,
        **_HALF,
    ),
    "px64": VQVAEConfig(
        image_size=64,
        widths=(32, 128),
        code_dim=32,
        codebook_size=1024,
        strides=(2, 2),
        res_blocks=2,
        res_width=64,
        **_HALF,
    ),
    "nano": VQVAEConfig(
        image_size=16,
        widths=(8, 16),
        code_dim=8,
        codebook_size=32,
        strides=(2, 2),
        res_blocks=1,
        res_width=8,
        **_HALF,
    ),
}
RELEASED = TOKENIZERS["paper"]
# Section 3.5, CogView-fashion: a VQGAN, 800 px -> 50 x 50. The paper gives no number of
# codes: that of the published VQGAN f16.
FASHION = VQGANConfig(image_size=800, attention=(50,))


@dataclass(frozen=True)
class TransformerConfig(DecoderConfig):
    """The transformer apart from what the two tokenizers decide.

    text_len: longest text in pieces. positions: "running" counts tokens as they come,
    as CogView does; with "fixed" a code has the same position behind any text, so that
    its row and column need not be worked out, which is learnt sooner; with "grid" that
    is an embedding of its row and one of its column, which images of several shapes
    share.
    """

    text_len: int = 61
    positions: Literal["running", "fixed", "grid"] = "running"


# Section 2.3: 48 layers, 2560 wide, 40 heads; PB-Relax with the paper's constants.
_PAPER = TransformerConfig(
    embedding_gradient=0.1, dtype="bfloat16", remat="nothing_saveable"
)
TRANSFORMERS = {
    "paper": _PAPER,
    # PB-Relax's maximum over a whole batch, as the released weights were trained: by
    # that of each token, so that no image depends on another, logits are up to 0.1 off.
    "release": replace(_PAPER, norm_scope="tensor"),
    # Section 3.5: 3B, whose shape is not given, with the release's window and pivots.
    "fashion": replace(_PAPER, depth=36, window=128),
    "small": TransformerConfig(
        width=256, depth=5, heads=4, text_len=16, dropout=0.0, unroll=5
    ),
    "nano": TransformerConfig(
        width=32, depth=2, heads=2, text_len=8, dropout=0.0, unroll=1
    ),
}


def make_layout(
    tokenizer: TokenizerConfig,
    num_text: int,
    transformer: TransformerConfig,
    shapes: tuple[Grid, ...] = (),
) -> Layout:
    """Sequence layout of a tokenizer's codes and `num_text` text pieces.

    shapes: (rows, columns) of images, () of the tokenizer's squares. ValueError for
    several where the place of a code does not tell its row.
    """
    fixed, several = transformer.positions != "running", len(shapes) > 1
    if several and not fixed:
        raise ValueError(
            f"the data has {len(shapes)} shapes of images, and with positions "
            "'running' a code's place does not tell its row: set positions to 'grid'"
        )
    vocab = Vocab(
        tokenizer.codebook_size, num_text, num_shapes=len(shapes) if several else 0
    )
    rows, columns = shapes[0] if shapes else 2 * (tokenizer.grid,)
    sizes = transformer.text_len, rows * columns, fixed
    return Layout(vocab, *sizes, shapes=shapes)


def make_transformer(config: TransformerConfig, layout: Layout) -> ImageLMConfig:
    """Network config for a layout; the position table holds one training sequence.

    Masked codes see each other and their text, which sees all of itself. The parameters
    are those of a causal network, from which training may start.
    Parity: CogView's table of 1089 rows is text 61 + image 1024 + 4 commands; the
    extra caption end of our layout is only ever a target.
    tests/families/cogview/test_presets.py
    """
    shared = asdict(config)
    del shared["text_len"], shared["positions"]
    rows, columns = layout.box
    if config.positions == "grid":
        shared |= {"rows": rows, "grid": columns}
    if config.window:
        shared |= _of_window(layout)
    return ImageLMConfig(
        vocab_size=layout.vocab.padded_size,
        mlp_dim=4 * config.width,
        max_positions=_num_positions(layout),
        sequence=_sequence(layout),
        **shared,
    )


def _of_window(layout: Layout) -> dict[str, int]:
    if layout.enlarges or layout.masked:
        raise ValueError(
            "window is for one image whose codes are predicted in turn: set it 0"
        )
    return {"num_codes": layout.vocab.num_codes, "image_len": layout.longest}


def _num_positions(layout: Layout) -> int:
    if not layout.enlarges:
        codes = math.prod(layout.box)
        return layout.image_start + codes if layout.fixed else layout.length - 1
    # The last of the small image's is that of [ROI2].
    small = layout.prompt_len + layout.small_len + 2
    return max(small, layout.large_start + layout.image_len)


def _sequence(layout: Layout) -> Sequence:
    if layout.enlarges:
        return Sequence.causal(layout.enlarging_len + layout.image_len)
    if not layout.masked:
        return Sequence.causal(layout.length - 1)
    return Sequence.text_to_image(layout.prompt_len, layout.shape, "all", "all")


def format_1(
    settings: Mapping[str, Any], tokenizer: TokenizerConfig, num_text: int
) -> tuple[Layout, ImageLMConfig]:
    """What the settings of a `TransformerConfig` in folders of format 1 mean."""
    config = section(TransformerConfig, settings, "transformer")
    layout = make_layout(tokenizer, num_text, config)
    return layout, make_transformer(config, layout)
