"""VQGAN (Esser et al. 2021): the sizes that taming-transformers published, and ours.

`f16`, `f16_1024` and `f8` are published; `shapes` and `emoji` train on one machine and
stand beside the VQ-VAEs of experiments/cogview, `nano` is for tests.
"""

from dataclasses import replace

from cogjax.models.vqgan import VQGANConfig

_SMALL = VQGANConfig(
    image_size=64,
    width=16,
    multipliers=(1, 2, 4, 6),
    res_blocks=1,
    attention=(),
    z_dim=64,
    code_dim=32,
    codebook_size=1024,
    groups=8,
)
TOKENIZERS = {
    # ImageNet, 256 px -> 16 x 16: 71.7 million weights and the codes.
    "f16": VQGANConfig(),
    "f16_1024": VQGANConfig(codebook_size=1024),
    # OpenImages, 256 px -> 32 x 32; also of ru-dalle.
    "f8": VQGANConfig(
        multipliers=(1, 1, 2, 4), attention=(32,), codebook_size=8192, form="gumbel"
    ),
    "shapes": _SMALL,
    "emoji": replace(_SMALL, image_size=72),
    "nano": VQGANConfig(
        image_size=16,
        width=8,
        multipliers=(1, 2, 2),
        res_blocks=1,
        attention=(),
        z_dim=8,
        code_dim=8,
        codebook_size=32,
        groups=4,
    ),
}
F16, F8 = TOKENIZERS["f16"], TOKENIZERS["f8"]
