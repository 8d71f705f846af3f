"""LlamaGen: its network apart from the sizes, and those of the release (table 3)."""

from cogjax.families.llamagen.layout import Layout, Vocab
from cogjax.models.image_lm_config import ImageLMConfig
from cogjax.models.vqgan import VQGANConfig
from cogjax.ops.sequence import Sequence


def make_network(
    prompt_len: int, grid: int, outputs: int, caption_dim: int = 0, **sizes
) -> ImageLMConfig:
    """A Llama over a prompt and grid x grid codes, of which there are `outputs`.

    caption_dim: channels of the vectors of a caption, 0 for a model of classes. sizes:
    other fields of the config. ValueError for sizes that do not fit.
    """
    return ImageLMConfig(
        max_positions=prompt_len + grid**2,
        grid=grid,
        sequence=Sequence.text_to_image(prompt_len, (grid, grid)),
        alpha=1.0,
        sandwich=False,
        norm="rms",
        mlp="swiglu",
        use_bias=False,
        rotary=10000.0,
        outputs=outputs,
        caption_dim=caption_dim,
        **sizes,
    )


# (width, depth, heads); all heads have 64 channels but those of the 3B.
_SIZES = {
    "b": (768, 12, 12),
    "l": (1024, 24, 16),
    "xl": (1280, 36, 20),
    "xxl": (1536, 48, 24),
    "3b": (3200, 24, 32),
}
_CODES, _CLASSES = 16384, 1000
# The VQ of 16 pixels a code, at the 384 pixels of the models of classes.
_VQ = {"multipliers": (1, 1, 2, 2, 4), "code_dim": 8, "codebook_size": _CODES}
_VQ |= {"form": "cosine"}


def _released(size: str, image_size: int, captions: bool):
    width, depth, heads = _SIZES[size]
    grid, prompt_len = image_size // 16, 120 if captions else 1
    tokenizer = VQGANConfig(image_size=image_size, attention=(grid,), **_VQ)
    # Pieces of flan-t5-xl, which are no ids here.
    vocab = Vocab(_CODES, 32100 if captions else _CLASSES, captions)
    network = make_network(
        prompt_len,
        grid,
        _CODES,
        2048 if captions else 0,
        width=width,
        depth=depth,
        heads=heads,
        mlp_dim=-(-(8 * width // 3) // 256) * 256,
        vocab_size=vocab.padded_size,
    )
    return tokenizer, Layout(vocab, prompt_len, grid**2), network


# Tokenizer, sequences and network by size: of classes, and of captions by pixels.
CLASSES = {size: _released(size, 384, captions=False) for size in _SIZES}
CAPTIONS = {f"xl-{side}": _released("xl", side, captions=True) for side in (256, 512)}
