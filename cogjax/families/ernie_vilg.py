"""ERNIE-ViLG (2021): its 10B transformer's size, for planning.

The paper's bidirectional masks and losses are not here yet; the text-to-image half of a
step costs the same. Text length and vocabulary are ours: the paper does not state them.
"""

from cogjax.models.image_lm import DecoderConfig, ImageLMConfig, sparse_config

TEXT_LEN, NUM_PIECES = 128, 32_000
GRID, NUM_CODES = 32, 8192
# Not stated in the paper: as CogView's.
BATCH_SIZE, STEPS = 6144, 144_000

TRANSFORMERS = {
    # Section 3.1: 48 layers of 4096, 64 heads.
    "paper": DecoderConfig(
        width=4096,
        depth=48,
        heads=64,
        dropout=0.1,
        sandwich=False,
        dtype="bfloat16",
        remat="nothing_saveable",
    )
}


def make_transformer(config: DecoderConfig) -> ImageLMConfig:
    """Network config; rows are blocks of their own."""
    return sparse_config(config, GRID, NUM_CODES, TEXT_LEN, NUM_PIECES, "own")
