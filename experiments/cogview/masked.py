"""MaskGIT on `icons`: the codes of an image together, in few steps (docs/masked.md).

    cogjax train --config experiments/cogview/masked.py --workdir runs/masked
    cogjax generate "a red apple, 3D" --model runs/masked/export --steps 8 --out images

Data, image tokenizer, texts and sizes are those of `icons.py`, whose first three
commands come before. `--config.data.weights=runs/lm/export` starts from its trained
transformer. `:nano` ends in a minute and shows that all parts work.
"""

import dataclasses

import ml_collections

from cogjax.families.cogview import presets as cogview

PROMPTS = (
    "a red apple, 3D",
    "一只猫的线稿",
    "flat illustration of a tiger",
    "a blue umbrella, two-tone icon",
    "绿色的汽车，实心图标",
    "Noto emoji of a strawberry",
    "立体图的火箭",
    "a purple camera, outline icon",
)
TRANSFORMER = cogview.TransformerConfig(
    width=256, depth=7, heads=4, text_len=18, positions="fixed", dropout=0.0, unroll=7
)


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """`arg` is "", or "nano"."""
    if arg not in ("", "nano"):
        raise ValueError(f"the argument is {arg!r}, expected nothing or nano")
    config = ml_collections.ConfigDict()
    config.task = {"name": "masked", "caption_dropout": 0.1}
    config.model = dataclasses.asdict(TRANSFORMER)
    config.data = {
        "path": "data/icons",
        "tokenizer": "runs/vq/export",
        "text": "runs/text.model",
    }
    config.mesh = {}
    config.optim = {
        "name": "muon",
        "lr": 0.02,
        "adam_lr": 3e-3,
        "warmup": 100,
        "final_ratio": 0.05,
    }
    config.train = {
        "seed": 0,
        "steps": 12_000,
        "batch_size": 32,
        "ema_decay": 0.998,
        "log_every": 50,
        "save_every": 500,
        "eval_every": 1000,
        "sample_every": 1000,
    }
    config.eval = {"batches": 8}
    config.sample = {
        "prompts": PROMPTS,
        "num_images": 4,
        "sampler": {"guidance": 2.0},
    }
    if arg == "nano":
        config.model = dataclasses.asdict(cogview.TRANSFORMERS["nano"])
        config.train.update(
            {"steps": 20, "batch_size": 8, "save_every": 10, "eval_every": 10}
        )
        config.train.update({"log_every": 5, "sample_every": 20})
        config.eval.batches = 1
    return config
