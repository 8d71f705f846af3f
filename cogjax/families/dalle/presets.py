"""DALL-E (Ramesh et al. 2021): what of the paper the transformer needs.

256 text tokens and 32 x 32 codes in one stream, every text position that has no token
with a learnt padding id of its own; sparse layers by `sparse_kinds`.
"""

from cogjax.models.image_lm_config import ImageLMConfig
from cogjax.nn.decoder_config import DecoderConfig
from cogjax.ops.masks import sparse_kinds
from cogjax.ops.sequence import Sequence

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
    num_ids = NUM_CODES + NUM_PIECES + TEXT_LEN
    return ImageLMConfig(
        **vars(config),
        vocab_size=-(-num_ids // 128) * 128,
        mlp_dim=4 * config.width,
        max_positions=TEXT_LEN + GRID**2,
        sequence=Sequence.text_to_image(TEXT_LEN, (GRID, GRID)),
        kinds=sparse_kinds(config.depth),
    )
