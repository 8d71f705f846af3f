"""Imagen on `icons`: a base of 32 px and super-resolution to 64 px.

    cogjax train --config experiments/imagen/text.py:medium --workdir runs/t5
    cogjax train --config experiments/imagen/icons.py:base --workdir runs/base
    cogjax train --config experiments/imagen/icons.py:super --workdir runs/super
    cogjax generate "a red apple, 3D" --model runs/super/export --out images

`:base,nano` and `:super,nano` end in a minute and show that all parts work. Not trained
to a result yet.
"""

import dataclasses

import ml_collections

from cogjax.models.efficient_unet import EfficientUNetConfig
from cogjax.models.unet import UNetConfig

PROMPTS = (
    "a red apple, 3D",
    "一只猫的线稿",
    "flat illustration of a tiger",
    "a blue umbrella, two-tone icon",
)
_TEXT_DIM = 128  # of experiments/imagen/text.py:medium
_SMALL = {"embed": 128, "text_dim": _TEXT_DIM, "groups": 8}
BASE = UNetConfig(
    image_size=32,
    width=32,
    multipliers=(1, 2, 4),
    res_blocks=2,
    attention=(8,),
    head_dim=32,
    **_SMALL,
)
SUPER = EfficientUNetConfig(
    image_size=64, small_size=32, widths=(32, 64, 128), blocks=(1, 2, 4), **_SMALL
)
NANO = {
    "base": UNetConfig(
        image_size=8,
        width=8,
        multipliers=(1, 2),
        res_blocks=1,
        attention=(4,),
        head_dim=8,
        embed=16,
        text_dim=16,
        groups=4,
    ),
    "super": EfficientUNetConfig(
        image_size=16,
        small_size=8,
        widths=(8, 16),
        blocks=(1, 1),
        heads=2,
        embed=16,
        text_dim=16,
        groups=4,
    ),
}


def get_config(arg: str = "base") -> ml_collections.ConfigDict:
    """`arg` is a stage, optionally followed by ",nano"."""
    stage, _, size = arg.partition(",")
    if stage not in NANO or size not in ("", "nano"):
        raise ValueError(
            f"the argument is {arg!r}, expected {', '.join(NANO)}, optionally followed "
            "by ,nano"
        )
    config = ml_collections.ConfigDict()
    config.task = {"name": "imagen" if stage == "base" else "imagen_super"}
    config.model = dataclasses.asdict(BASE if stage == "base" else SUPER)
    config.data = {"path": "data/icons", "text": "runs/t5/export"}
    config.data.below = "runs/base/export" if stage == "super" else ""
    config.optim = {"lr": 1e-3, "warmup": 200, "weight_decay": 0.0}
    config.mesh = {}
    config.train = {
        "seed": 0,
        "steps": 10_000,
        "batch_size": 32,
        "ema_decay": 0.999,
        "log_every": 50,
        "save_every": 500,
        "eval_every": 1000,
        "sample_every": 1000,
    }
    config.eval = {"batches": 8}
    config.sample = {"prompts": PROMPTS, "num_images": 4, "sampler": {}}
    if size == "nano":
        config.model = dataclasses.asdict(NANO[stage])
        config.train.update({"steps": 20, "batch_size": 8, "log_every": 5})
        config.train.update({"save_every": 10, "eval_every": 10, "sample_every": 20})
        config.eval.batches = 1
    return config
