"""What is measured: one row of the table is a run of ours and the same run of peers.

A program is a function of a module beside this file, and its settings. It is called
with `nano` too: then all sizes are tiny, and the figures say nothing.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Sizes(NamedTuple):
    """A transformer over `text` positions, `grid` x `grid` codes, `ids` of either."""

    width: int
    depth: int
    heads: int
    text: int
    grid: int
    ids: int

    @property
    def codes(self) -> int:
        """Positions of an image."""
        return self.grid**2

    @property
    def length(self) -> int:
        """Positions of a text and its image."""
        return self.text + self.codes


# Those of the sizes "reference" and "nano" of `cogjax bench`.
SIZES = {False: Sizes(512, 8, 8, 64, 32, 8192), True: Sizes(32, 2, 2, 4, 4, 32)}


class DalleMini(NamedTuple):
    """An encoder and decoder; `mlp` is its gated width, `codes` are measured a run."""

    layers: int
    width: int
    heads: int
    mlp: int
    codes: int


MINI = {
    False: DalleMini(12, 1024, 16, 2730, 32),
    True: DalleMini(1, 32, 2, 64, 8),
}


class UNetSizes(NamedTuple):
    """Imagen's base of `icons`, or `nano`, and how much text it reads.

    level: channels of each level. blocks: of a level. head: channels of a head of
    attention, which the last level has. train_text: tokens in training.
    """

    image: int
    levels: tuple[int, ...]
    blocks: int
    head: int
    groups: int
    text_dim: int
    text: int
    train_text: int


UNETS = {
    False: UNetSizes(32, (32, 64, 128), 2, 32, 8, 128, 64, 256),
    True: UNetSizes(8, (8,), 1, 8, 4, 16, 4, 256),
}


class Program(NamedTuple):
    """label: what the table calls it. maker: "module:function"."""

    label: str
    maker: str
    settings: dict[str, Any]

    @property
    def is_ours(self) -> bool:
        """Whether it runs in the interpreter that has cogjax."""
        return self.maker.startswith("ours:")


@dataclass(frozen=True)
class Row:
    """unit: what is counted in a second. note: in what the two are equal or not."""

    name: str
    unit: str
    ours: Program
    peers: tuple[Program, ...]
    note: str = field(default="")

    @property
    def programs(self) -> tuple[Program, ...]:
        """Ours first."""
        return self.ours, *self.peers


def _ours(maker: str, **settings: Any) -> Program:
    return Program("cogjax", f"ours:{maker}", settings)


def _train(kinds: str) -> Program:
    return _ours("transformer", part="train", attention=kinds, batch=2)


def _sample(kinds: str, batch: int) -> Program:
    return _ours("transformer", part="decode", attention=kinds, batch=batch)


def _text(label: str, maker: str, **settings: Any) -> tuple[Program]:
    return (Program(label, f"torch_text:{maker}", settings),)


def _images(label: str, maker: str, **settings: Any) -> tuple[Program, Program]:
    """As the modules are, and in torch's `channels_last`."""
    return tuple(
        Program(label + suffix, f"torch_images:{maker}", settings | {"last": bool(i)})
        for i, suffix in enumerate(("", ", channels_last"))
    )


_SAME = "Equal width, depth, heads, positions and ids; AdamW. "
_OURS_MORE = "Our step also clips gradients and keeps a moving average. "
_LLAMA = "Equal width, depth, heads, ids and weights of the layers. "


def _sampling(kinds: str, batch: int, name: str, note: str) -> Row:
    peers = _text("transformers Llama, static cache", "llama_sample", batch=batch)
    row = f"sample-{name}-{batch}"
    return Row(row, "tokens", _sample(kinds, batch), peers, _LLAMA + note)


ROWS = (
    Row(
        "train-mix",
        "tokens",
        _train("sparse"),
        _text("dalle-pytorch", "dalle_train", kinds="mix", batch=2),
        _SAME + _OURS_MORE + "Equal kinds of layers: row, column, row, row, row, "
        "column, row, convolution. The peer's MLP is gated, 1.5 x our weights.",
    ),
    Row(
        "train-full",
        "tokens",
        _train("causal"),
        _text("dalle-pytorch", "dalle_train", kinds="full", batch=2),
        _SAME + _OURS_MORE + "Full attention in both. The peer's MLP is gated, 1.5 x "
        "our weights.",
    ),
    Row(
        "train-llama",
        "tokens",
        _train("causal"),
        _text("transformers Llama, SDPA", "llama_train", batch=2),
        _SAME + _OURS_MORE + "Equal weights of the layers; this is LlamaGen's shape. "
        "One table of ids scores text and codes: products as ours, half the weights.",
    ),
    Row(
        "train-gpt2",
        "tokens",
        _train("causal"),
        _text("transformers GPT-2, SDPA", "gpt2_train", batch=2),
        _SAME + _OURS_MORE + "Equal products, one table of ids as in the row before.",
    ),
    Row(
        "attention",
        "calls",
        _ours("attention"),
        _text("torch SDPA", "attention"),
        "Equal function: causal attention, forward and backward, batch 2.",
    ),
    *(
        _sampling("causal", batch, "full", "Equal function: full attention.")
        for batch in (1, 8)
    ),
    *(
        _sampling(
            "sparse",
            batch,
            "mix",
            "Ours has DALL-E's kinds of layers, the peer full attention.",
        )
        for batch in (1, 8)
    ),
    Row(
        "sample-dalle-mini",
        "codes",
        _ours("dalle_mini"),
        _text("min-dalle", "min_dalle"),
        "Equal function and sizes: DALL-E mini, one image with guidance, top-k 256, "
        "the text read before.",
    ),
    *(
        Row(
            f"tokenizer-{part}",
            "images",
            _ours("tokenizer", part=part),
            _images("diffusers VQModel", "vqmodel", part=part),
            "Equal function, about equal sizes: VQGAN f8 at 256 pixels, without the "
            "nearest code, batch 1.",
        )
        for part in ("encode", "decode")
    ),
    Row(
        "unet-train",
        "images",
        _ours("unet_train", batch=8),
        _images("diffusers UNet2DConditionModel", "unet_train", batch=8),
        "About equal sizes, another function: Imagen's base of `icons`, 32 pixels, "
        "256 tokens of text; AdamW. " + _OURS_MORE,
    ),
    Row(
        "unet-denoise",
        "images",
        _ours("unet_denoise", batch=4),
        _images("diffusers UNet2DConditionModel", "unet_denoise", batch=4),
        "About equal sizes, another function: one guided estimate of 4 images, two "
        "rows an image, 64 tokens of text.",
    ),
)
