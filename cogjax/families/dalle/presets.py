"""DALL-E (Ramesh et al. 2021): what of the paper the transformer needs.

256 text tokens and 32 x 32 codes in one stream, every text position that has no token
with a learnt padding id of its own; sparse layers by `sparse_kinds`.
"""

from cogjax.models.dvae import DVAEConfig
from cogjax.models.image_lm_config import ImageLMConfig
from cogjax.nn.decoder_config import DecoderConfig
from cogjax.ops.masks import sparse_kinds
from cogjax.ops.sequence import Sequence

TEXT_LEN, NUM_PIECES = 256, 16384
GRID, NUM_CODES = 32, 8192
# Section 2.3: 1,024 pairs an update, 430,000 updates.
BATCH_SIZE, STEPS = 1024, 430_000

TOKENIZERS = {
    # Appendix A.1: 256 px -> 32 x 32 of 8192 codes, 97,616,006 weights.
    "paper": DVAEConfig(),
    "px64": DVAEConfig(image_size=64, grid=8, width=32, codebook_size=1024),
    "nano": DVAEConfig(
        image_size=16, grid=4, width=8, blocks=1, code_dim=8, codebook_size=32
    ),
}

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
    num_ids = NUM_CODES + NUM_PIECES + TEXT_LEN
    return ImageLMConfig(
        **vars(config),
        vocab_size=-(-num_ids // 128) * 128,
        mlp_dim=4 * config.width,
        max_positions=TEXT_LEN + GRID**2,
        sequence=Sequence.text_to_image(TEXT_LEN, (GRID, GRID)),
        kinds=sparse_kinds(config.depth),
    )
