"""What the DALL-E configs of small data sets have in common."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import ml_collections

from cogjax.families.dalle import presets as dalle

# The paper's, but for the rate: a small network takes a higher one.
PAPER_OPTIM = {
    "name": "adamw",
    "lr": 1e-3,
    "warmup": 100,
    "final_ratio": 1 / 32,
    "b2": 0.96,
    "weight_decay": 4.5e-2,
    "decay_embeddings": False,
    "clip": 4.0,
    "moments": "16bit",
}
# As `experiments/cogview/shapes.py`: it learns several times as fast (docs/dalle.md).
MUON = {
    "name": "muon",
    "lr": 0.02,
    "adam_lr": 3e-3,
    "warmup": 100,
    "final_ratio": 0.05,
    "b2": 0.95,
    "weight_decay": 4e-2,
    "decay_embeddings": True,
    "clip": 1.0,
    "moments": "float32",
}


def make_config(
    arg: str, tokenizer: Mapping[str, Any], transformer: Mapping[str, Any]
) -> ml_collections.ConfigDict:
    """`arg` is a stage, optionally followed by ",nano".

    tokenizer, transformer: what is set in the sections of the stage.
    """
    stages = {
        "tokenizer": (_tokenizer, tokenizer),
        "transformer": (_transformer, transformer),
    }
    stage, _, size = arg.partition(",")
    if stage not in stages or size not in ("", "nano"):
        raise ValueError(
            f"the argument is {arg!r}, expected {', '.join(stages)}, "
            "optionally followed by ,nano"
        )
    make, changes = stages[stage]
    config = make()
    for section, values in changes.items():
        config[section].update(values)
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
    # The paper's beta at the end, four times that at first: flat grounds weigh the
    # likelihood up, and where beta rises from 0 nearly all images become one code.
    config.task = {"name": "dvae", "kl_start": 26.0}
    config.model = dataclasses.asdict(dalle.TOKENIZERS["px64"])
    config.optim = {**MUON, "warmup": 50, "weight_decay": 1e-4}
    config.train.update({"batch_size": 16, "ema_decay": 0.99})
    return config


def _transformer() -> ml_collections.ConfigDict:
    config = _common()
    config.task = {"name": "dalle"}
    config.model = dataclasses.asdict(dalle.TRANSFORMERS["small"])
    config.data.update({"tokenizer": "runs/dvae/export", "text": "runs/text.model"})
    config.optim = dict(PAPER_OPTIM)
    config.train.update({"ema_decay": 0.998})
    config.sample = {"num_images": 4}
    return config


def _common() -> ml_collections.ConfigDict:
    config = ml_collections.ConfigDict()
    config.data = {}
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
