"""minDALL-E: its network apart from the sizes, and those of the release."""

from cogjax.families.mindalle.layout import Layout, Vocab
from cogjax.models.image_lm_config import ImageLMConfig
from cogjax.models.vqgan import VQGANConfig
from cogjax.ops.sequence import Sequence


def make_network(vocab_size: int, num_text: int, grid: int, **sizes) -> ImageLMConfig:
    """A GPT over `num_text` positions of text and grid x grid codes.

    vocab_size: rows of both tables. sizes: other fields of the config. ValueError for
    sizes that do not fit.
    """
    return ImageLMConfig(
        vocab_size=vocab_size,
        max_positions=num_text + grid**2,
        sequence=Sequence.text_to_image(num_text, (grid, grid)),
        alpha=1.0,
        norm_scope="none",
        sandwich=False,
        mlp="exact_gelu",
        outputs=vocab_size,
        **sizes,
    )


# Tokenizer, sequences and network by size; 1,291,081,728 weights of the last.
RELEASED = {
    "1.3b": (
        VQGANConfig(),
        Layout(Vocab(16384, 16383, 16383, 16384), 64, 256),
        make_network(2 * 16384, 64, 16, width=1536, depth=42, heads=24, mlp_dim=6144),
    )
}
