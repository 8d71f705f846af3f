"""Imagen's text encoder, in three sizes: a T5 pre-trained on the captions of `icons`.

    cogjax data icons --out data/icons
    cogjax tokenizer train --data data/icons --vocab-size 4000 --out runs/text.model
    cogjax train --config experiments/imagen/text.py:medium --workdir runs/t5
    cogjax encode-text --model runs/t5/export --data data/icons --out data/icons-text

The captions of any data set do, and no image is read: --config.data.path=DIR. `:nano`
ends in a minute and shows that all parts work. `:paper` has the size of the paper's T5
XXL, whose weights are not trained here: for `cogjax train --dry-run`.
"""

import dataclasses

import ml_collections

from cogjax.models.t5 import CONFIGS, T5Config

_COMMON = {"head_dim": 32, "text_len": 32}
SIZES = {
    "nano": T5Config(width=16, depth=1, heads=2, head_dim=8, mlp_dim=32, text_len=16),
    "small": T5Config(width=64, depth=2, heads=2, mlp_dim=128, **_COMMON),
    "medium": T5Config(width=128, depth=4, heads=4, mlp_dim=256, **_COMMON),
    "large": T5Config(width=256, depth=6, heads=8, mlp_dim=512, **_COMMON),
    "paper": CONFIGS["v1_1-xxl"],
}


def get_config(arg: str = "medium") -> ml_collections.ConfigDict:
    """`arg` is a size."""
    if arg not in SIZES:
        raise ValueError(f"the argument is {arg!r}, expected one of {', '.join(SIZES)}")
    config = ml_collections.ConfigDict()
    config.task = {"name": "t5"}
    config.model = dataclasses.asdict(SIZES[arg])
    config.data = {"path": "data/icons", "text": "runs/text.model"}
    config.optim = {"lr": 2e-3, "warmup": 100, "weight_decay": 0.0}
    config.mesh = {}
    config.train = {
        "seed": 0,
        "steps": 10_000,
        "batch_size": 64,
        "ema_decay": 0.998,
        "log_every": 50,
        "save_every": 500,
        "eval_every": 1000,
    }
    config.eval = {"batches": 8}
    if arg == "paper":
        config.data.text = ""
    if arg == "nano":
        config.train.update({"steps": 20, "batch_size": 8, "log_every": 5})
        config.train.update({"save_every": 10, "eval_every": 10})
        config.eval.batches = 1
    return config
