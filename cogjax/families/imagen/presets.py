"""Imagen (Saharia et al. 2022): sizes of the stages of a cascade, base first.

`paper` is appendix B as printed: 64, 256 and 1,024 pixels. The others are ours: `icons`
of 32 and 64 pixels for two CPU cores, `nano` for tests: one level a stage, which
compiles fast.
"""

from cogjax.models.efficient_unet import EfficientUNetConfig
from cogjax.models.unet import UNetConfig

# Section 3.2 and appendix B: all stages alike.
BATCH_SIZE, STEPS = 2048, 2_500_000

_ICONS = {"embed": 128, "text_dim": 128, "groups": 8}
_NANO = {"embed": 16, "text_dim": 16, "groups": 4}
STAGES = {
    "paper": (
        UNetConfig(),
        EfficientUNetConfig(),
        EfficientUNetConfig(image_size=1024, small_size=256, attention="text"),
    ),
    "icons": (
        UNetConfig(
            image_size=32,
            width=32,
            multipliers=(1, 2, 4),
            res_blocks=2,
            attention=(8,),
            head_dim=32,
            **_ICONS,
        ),
        EfficientUNetConfig(
            image_size=64,
            small_size=32,
            widths=(32, 64, 128),
            blocks=(1, 2, 4),
            **_ICONS,
        ),
    ),
    "nano": (
        UNetConfig(
            image_size=8,
            width=8,
            multipliers=(1,),
            res_blocks=1,
            attention=(),
            head_dim=8,
            **_NANO,
        ),
        EfficientUNetConfig(
            image_size=16, small_size=8, widths=(8,), blocks=(1,), heads=2, **_NANO
        ),
    ),
}
