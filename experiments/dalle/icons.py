"""DALL-E on `icons`, beside `experiments/cogview/icons.py`.

    cogjax data icons --out data/icons
    cogjax tokenizer train --data data/icons --vocab-size 4000 --lower-case \
        --out runs/text.model
    cogjax train --config experiments/dalle/icons.py:tokenizer --workdir runs/dvae
    cogjax train --config experiments/dalle/icons.py:transformer --workdir runs/lm
    cogjax generate "a red apple, 3D" --model runs/lm/export --out images

`:tokenizer,nano` and `:transformer,nano` end in a minute and show that all parts work.
"""

import dataclasses

import ml_collections

from cogjax.families.dalle import presets as dalle

PROMPTS = (
    "a red apple, 3D",
    "一只猫的线稿",
    "flat illustration of a tiger",
    "a blue umbrella, two-tone icon",
)


def get_config(arg: str = "transformer") -> ml_collections.ConfigDict:
    """`arg` is a stage, optionally followed by ",nano"."""
    stages = {"tokenizer": _tokenizer, "transformer": _transformer}
    stage, _, size = arg.partition(",")
    if stage not in stages or size not in ("", "nano"):
        raise ValueError(
            f"the argument is {arg!r}, expected {', '.join(stages)}, "
            "optionally followed by ,nano"
        )
    config = stages[stage]()
    if size == "nano":
        sizes = dalle.TOKENIZERS if stage == "tokenizer" else dalle.TRANSFORMERS
        config.model = dataclasses.asdict(sizes["nano"])
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
    config.task = {"name": "dvae", "temperature_steps": 2100, "kl_steps": 350}
    config.model = dataclasses.asdict(dalle.TOKENIZERS["px64"])
    config.optim = {
        "lr": 1e-3,
        "final_ratio": 1 / 80,
        "b2": 0.999,
        "weight_decay": 1e-4,
    }
    config.train.update({"steps": 2800, "batch_size": 16, "ema_decay": 0.99})
    return config


def _transformer() -> ml_collections.ConfigDict:
    config = _common()
    config.task = {
        "name": "dalle",
        # Not the paper's: as `experiments/cogview/icons.py`, for few images.
        "caption_dropout": 0.05,
        "code_noise": 0.4,
    }
    config.model = dataclasses.asdict(dalle.TRANSFORMERS["small"])
    config.data.update({"tokenizer": "runs/dvae/export", "text": "runs/text.model"})
    config.optim = {
        "lr": 1e-3,
        "warmup": 100,
        "final_ratio": 1 / 32,
        "b2": 0.96,
        "weight_decay": 4.5e-2,
        "decay_embeddings": False,
        "clip": 4.0,
        "moments": "16bit",
    }
    config.train.update({"steps": 12000, "batch_size": 32, "ema_decay": 0.998})
    config.sample = {"prompts": PROMPTS, "num_images": 4}
    return config


def _common() -> ml_collections.ConfigDict:
    config = ml_collections.ConfigDict()
    config.data = {"path": "data/icons"}
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
