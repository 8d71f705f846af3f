"""DALL-E on the world of shapes, beside `experiments/cogview/shapes.py`.

    cogjax data shapes --out data/shapes --n 60000
    cogjax train --config experiments/dalle/shapes.py:tokenizer --workdir runs/dvae

`:tokenizer,nano` ends in a minute and shows that all parts work.
"""

import dataclasses

import ml_collections

from cogjax.families.dalle import presets as dalle


def get_config(arg: str = "tokenizer") -> ml_collections.ConfigDict:
    """`arg` is a stage, optionally followed by ",nano"."""
    stages = {"tokenizer": _tokenizer}
    stage, _, size = arg.partition(",")
    if stage not in stages or size not in ("", "nano"):
        raise ValueError(
            f"the argument is {arg!r}, expected {', '.join(stages)}, "
            "optionally followed by ,nano"
        )
    config = stages[stage]()
    if size == "nano":
        config.model = dataclasses.asdict(dalle.TOKENIZERS["nano"])
        config.train.update(
            {"steps": 20, "batch_size": 8, "save_every": 10, "eval_every": 10}
        )
        config.train.update({"log_every": 5, "sample_every": 20})
        config.eval.batches = 1
    return config


def _tokenizer() -> ml_collections.ConfigDict:
    config = _common()
    # 64 px to 8 x 8 codes: a code stands for as many pixels as in the paper, and beta
    # weighs as much. Both schedules take the paper's shares of the run, or more.
    config.task = {"name": "dvae", "temperature_steps": 2025, "kl_steps": 340}
    config.model = dataclasses.asdict(dalle.TOKENIZERS["px64"])
    config.optim = {
        "lr": 1e-3,
        "final_ratio": 1 / 80,
        "b2": 0.999,
        "weight_decay": 1e-4,
    }
    config.train.update({"steps": 2700, "batch_size": 16, "ema_decay": 0.99})
    return config


def _common() -> ml_collections.ConfigDict:
    config = ml_collections.ConfigDict()
    config.data = {"path": "data/shapes"}
    config.mesh = {}
    config.train = {
        "seed": 0,
        "log_every": 50,
        "save_every": 500,
        "eval_every": 1000,
        "sample_every": 1000,
    }
    config.eval = {"batches": 8}
    return config
