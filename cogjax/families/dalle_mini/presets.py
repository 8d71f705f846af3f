"""DALL-E mini and mega at the sizes of their releases."""

from cogjax.families.dalle_mini.layout import Layout, PairVocab
from cogjax.models.encoder_decoder_config import EncoderDecoderConfig
from cogjax.models.vqgan import VQGANConfig

_NETWORKS = {
    "mini": EncoderDecoderConfig(),
    "mega": EncoderDecoderConfig(
        width=2048,
        depth=24,
        heads=32,
        mlp_dim=4096,
        text_vocab_size=50272,
        vocab_size=16416,
    ),
}
# Tokenizer, sequences and network by size; pixels in [0, 1] inside.
RELEASED = {
    size: (
        VQGANConfig(black=0),
        Layout(PairVocab(16384, network.vocab_size, network.text_vocab_size), 64, 256),
        network,
    )
    for size, network in _NETWORKS.items()
}
