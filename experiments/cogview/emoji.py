"""CogView on the bilingual emoji styles: the model that ships with the package.

    S=noto,twemoji,fluent-3d,fluent-flat,fluent-mono
    cogjax data emoji --out data/all --size 72 --no-flags --styles $S
    cogjax data emoji --out data/core --size 72 --no-flags --styles $S \
        --groups animals-nature,food-drink,travel-places
    cogjax data emoji --out data/emoji --size 72 --no-flags --styles $S \
        --groups animals-nature,food-drink
    cogjax tokenizer train --data data/core --vocab-size 2000 --out runs/text.model
    cogjax train --config experiments/cogview/emoji.py:tokenizer --workdir runs/vq \
        --config.data.path=data/all
    cogjax train --config experiments/cogview/emoji.py:transformer --workdir runs/lm
    cogjax generate "a red apple, 3D" --model runs/lm/export --out images

`:tokenizer,nano` and `:transformer,nano` end in a minute and show that all parts work.
Hardware, time and results of the shipped run are in cogjax/assets/emoji/card.md.
"""

import dataclasses

import ml_collections

from cogjax.families.cogview import presets as cogview

PROMPTS = (
    "a red apple, 3D",
    "一只猫的线稿",
    "flat design of a tiger",
    "Noto emoji of a strawberry",
    "推特风格的汉堡",
    "3D 立体的火箭",
)


def get_config(arg: str = "transformer") -> ml_collections.ConfigDict:
    """`arg` is a stage, optionally followed by ",nano"."""
    stages = {
        "tokenizer": _tokenizer,
        "transformer": _transformer,
    }
    stage, _, size = arg.partition(",")
    if stage not in stages or size not in ("", "nano"):
        raise ValueError(
            f"the argument is {arg!r}, expected {', '.join(stages)}, "
            "optionally followed by ,nano"
        )
    config = stages[stage]()
    if size == "nano":
        _shrink(config, stage)
    return config


def _tokenizer() -> ml_collections.ConfigDict:
    config = _common()
    config.task = {"name": "vq", "method": "ema"}
    config.model = dataclasses.asdict(cogview.TOKENIZERS["px72"])
    config.optim = {"lr": 2e-3, "warmup": 100, "weight_decay": 0.0, "b2": 0.99}
    config.train.update({"steps": 1500, "batch_size": 32, "ema_decay": 0.995})
    return config


def _transformer() -> ml_collections.ConfigDict:
    config = _common()
    config.task = {
        "name": "lm",
        "image_to_text": 0.35,
        # A batch holds few caption tokens: at 1 the other direction is not learnt.
        "caption_weight": 16.0,
        "caption_dropout": 0.05,
        # Without it the images are memorised from their first codes, not the text.
        "code_noise": 0.6,
    }
    config.model = dataclasses.asdict(cogview.TRANSFORMERS["small"])
    config.data.update({"tokenizer": "runs/vq/export", "text": "runs/text.model"})
    config.optim = {
        "name": "muon",
        "lr": 0.02,
        "adam_lr": 3e-3,
        "warmup": 100,
        "final_ratio": 0.05,
    }
    config.train.update({"steps": 8000, "batch_size": 16, "ema_decay": 0.998})
    config.sample = {
        "prompts": PROMPTS,
        "num_images": 4,
        "sampler": {"temperature": 0.9, "top_p": 0.95, "guidance": 1.5},
    }
    return config


def _common() -> ml_collections.ConfigDict:
    config = ml_collections.ConfigDict()
    config.data = {"path": "data/emoji"}
    config.mesh = {}
    config.train = {
        "seed": 0,
        "log_every": 50,
        "save_every": 250,
        "eval_every": 1000,
        "sample_every": 500,
    }
    config.eval = {"batches": 8}
    return config


def _shrink(config: ml_collections.ConfigDict, stage: str) -> None:
    sizes = cogview.TOKENIZERS if stage == "tokenizer" else cogview.TRANSFORMERS
    config.model = dataclasses.asdict(sizes["nano"])
    config.train.update(
        {"steps": 20, "batch_size": 8, "save_every": 10, "eval_every": 10}
    )
    config.train.update({"log_every": 5, "sample_every": 20})
    config.eval.batches = 1
