"""ru-dalle: its network apart from the sizes, and those of the release."""

from dataclasses import replace

from cogjax.families.rudalle.layout import Layout, Vocab
from cogjax.models.image_lm_config import ImageLMConfig
from cogjax.models.vqgan import VQGANConfig
from cogjax.ops.masks import LayerKind, sparse_kinds
from cogjax.ops.sequence import Sequence

# How the convolution of each version meets the border of an image.
EDGES = {"v2": "torus", "v3": "clip"}


def make_network(version: str, num_text: int, grid: int, **sizes) -> ImageLMConfig:
    """A transformer over `num_text` positions of text and grid x grid codes.

    version: of `EDGES`. sizes: other fields of the config, of which `vocab_size` is
    the rows of both tables. ValueError for sizes that do not fit.
    """
    return ImageLMConfig(
        # The table of positions has one more than v3 uses.
        max_positions=num_text + 1 + grid**2,
        grid=grid,
        sequence=Sequence.text_to_image(num_text, (grid, grid)),
        kinds=kinds(sizes["depth"], EDGES[version]),
        norm_scope="none",
        outputs=sizes["vocab_size"],
        normed_head=True,
        **sizes,
    )


def convolution(edge: str) -> LayerKind:
    """The kind of the last layer."""
    return LayerKind("conv", 11, edge)


def kinds(depth: int, edge: str) -> tuple[LayerKind, ...]:
    """As DALL-E's, but that a last layer of columns stays one."""
    found = sparse_kinds(depth, edge=edge)
    if depth % 4 == 2:
        return (*found[:-1], LayerKind("column", 11, edge))
    return found


_VOCAB = Vocab(8192, 16384, 16384 + 128)
_LAYOUT = Layout(_VOCAB, 128, 1024, shifted=False)
_SIZES = {"width": 2048, "depth": 24, "heads": 16, "mlp_dim": 8192}
_SIZES["vocab_size"] = _VOCAB.padded_size
_TOKENIZER = VQGANConfig(
    multipliers=(1, 1, 2, 4), attention=(32,), codebook_size=8192, form="gumbel"
)
# Tokenizer, sequences and network by version: Malevich, 1.3 billion weights.
RELEASED = {
    version: (
        _TOKENIZER,
        replace(_LAYOUT, shifted=version == "v2"),
        make_network(version, 128, 32, **_SIZES),
    )
    for version in EDGES
}
