"""DALL-E (Ramesh et al. 2021): what of the paper the transformer needs.

256 text tokens and 32 x 32 codes in one stream, every text position that has no token
with a learnt padding id of its own; sparse layers by `layer_kinds`.
"""

from cogjax.models.image_lm import DecoderConfig, ImageLMConfig, sparse_config

TEXT_LEN, NUM_PIECES = 256, 16384
GRID, NUM_CODES = 32, 8192
# Section 2.3: 1,024 pairs an update, 430,000 updates.
BATCH_SIZE, STEPS = 1024, 430_000

TRANSFORMERS = {
    # Appendix B.1: 64 layers, 62 heads of 64.
    "paper": DecoderConfig(
        width=3968,
        depth=64,
        heads=62,
        dropout=0.1,
        sandwich=False,
        dtype="bfloat16",
        remat="nothing_saveable",
    )
}


def make_transformer(config: DecoderConfig) -> ImageLMConfig:
    """Network config: codes, then text pieces, then one padding id a text position."""
    num_text = NUM_PIECES + TEXT_LEN
    return sparse_config(config, GRID, NUM_CODES, TEXT_LEN, num_text)
