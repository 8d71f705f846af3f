"""Imagen on the world of shapes: a base of 32 px and super-resolution to 64 px.

    experiments/imagen/shapes.sh RUNS

starts all three runs, or goes on with them: the text encoder, a T5 by span corruption
on the captions; the base; super-resolution, whose export is the cascade. One by one:

    cogjax data shapes --out data/easy --n 80000 --easy
    cogjax train --config experiments/imagen/shapes.py:text --workdir runs/t5
    cogjax encode-text --model runs/t5/export --data data/easy --out runs/texts
    cogjax train --config experiments/imagen/shapes.py:base --workdir runs/base
    cogjax train --config experiments/imagen/shapes.py:super --workdir runs/super
    cogjax evaluate runs/super/export --suite shapes --n 500 --out eval \
        --best-of 16 --rerank-model clip-shapes

`:text,nano`, `:base,nano` and `:super,nano` end in a minute and show that all parts
work.
"""

import dataclasses

import ml_collections

from cogjax.families.imagen.presets import STAGES
from cogjax.models.efficient_unet import EfficientUNetConfig
from cogjax.models.t5 import T5Config
from cogjax.models.unet import UNetConfig

PROMPTS = (
    "a red circle to the left of a blue star",
    "three green triangles",
    "一个大的黄色心形",
    "a small purple ring above a black square",
)
TEXT = T5Config(width=128, depth=4, heads=4, head_dim=32, mlp_dim=256, text_len=24)
_COMMON = {"embed": 128, "text_dim": 128, "groups": 8}
BASE = UNetConfig(
    image_size=32,
    width=32,
    multipliers=(1, 2, 4),
    res_blocks=1,
    attention=(8,),
    head_dim=32,
    **_COMMON,
)
SUPER = EfficientUNetConfig(
    image_size=64,
    small_size=32,
    widths=(32, 64),
    blocks=(1, 2),
    heads=4,
    attention="text",
    **_COMMON,
)
NANO_TEXT = dataclasses.replace(
    TEXT, width=16, depth=1, heads=2, head_dim=8, mlp_dim=32
)
_PLACES = {"base": 0, "super": 1}  # in a cascade


def get_config(arg: str = "base") -> ml_collections.ConfigDict:
    """`arg` is a stage or "text", optionally followed by ",nano"."""
    stage, _, size = arg.partition(",")
    if stage not in ("text", *_PLACES) or size not in ("", "nano"):
        raise ValueError(
            f"the argument is {arg!r}, expected text, base or super, optionally "
            "followed by ,nano"
        )
    config = _text(size) if stage == "text" else _stage(stage, size)
    if size == "nano":
        config.train.update({"steps": 20, "batch_size": 8, "log_every": 5})
        config.train.update({"save_every": 10, "eval_every": 10, "sample_every": 20})
        config.eval.batches = 1
    return config


def _text(size: str) -> ml_collections.ConfigDict:
    config = _common()
    config.task = {"name": "t5"}
    config.model = dataclasses.asdict(NANO_TEXT if size else TEXT)
    config.data = {"path": "data/easy", "text": "shapes"}
    config.optim.lr = 2e-3
    config.train.update({"steps": 2000, "batch_size": 64, "ema_decay": 0.998})
    return config


def _stage(stage: str, size: str) -> ml_collections.ConfigDict:
    config = _common()
    config.task = {"name": "imagen" if stage == "base" else "imagen_super"}
    sizes = STAGES["nano"] if size else (BASE, SUPER)
    config.model = dataclasses.asdict(sizes[_PLACES[stage]])
    config.data = {
        "path": "data/easy",
        "text": "runs/t5/export",
        "vectors": "runs/texts",
        "below": "runs/base/export" if stage == "super" else "",
    }
    # In a pilot of 50 updates far ahead of AdamW at 1e-3 (docs/imagen.md).
    config.optim.update({"name": "muon", "lr": 0.02, "adam_lr": 3e-3})
    config.train.update({"steps": 20_000 if stage == "base" else 4000})
    config.train.update({"batch_size": 16, "ema_decay": 0.999})
    config.sample = {"prompts": PROMPTS, "num_images": 4, "sampler": {"steps": 16}}
    return config


def _common() -> ml_collections.ConfigDict:
    config = ml_collections.ConfigDict()
    config.optim = {"warmup": 200, "weight_decay": 0.0, "b2": 0.99}
    config.mesh = {}
    config.train = {"seed": 0, "log_every": 50, "save_every": 500, "eval_every": 1000}
    config.train.sample_every = 1000
    config.eval = {"batches": 8}
    return config
