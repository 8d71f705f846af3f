"""CogView on the compositional world: scenes of shapes at 64 px, scored by the oracle.

    cogjax data shapes --out data/shapes --n 60000
    cogjax data shapes --out data/easy --n 80000 --easy
    cogjax tokenizer train --data data/shapes --vocab-size 640 --out runs/text.model
    cogjax train --config experiments/cogview/shapes.py:tokenizer --workdir runs/vq
    cogjax train --config experiments/cogview/shapes.py:transformer --workdir runs/lm

`:tokenizer,nano` and `:transformer,nano` end in a minute and show that all parts work.
2 CPU cores: 14 and 71 minutes; 77 % of seen requests right, 89 % the best of 16 by
caption loss (docs/shapes.md).
"""

import dataclasses

import ml_collections

from cogjax.families.cogview import presets as cogview
from cogjax.models.vqvae import VQVAEConfig

PROMPTS = (
    "a red circle",
    "两个蓝色的正方形",
    "five stars",
    "a green heart to the left of a black ring",
    "一个黄色圆形在一个紫色三角形的上方",
    "a large brown cross and a small pink diamond",
)
# 8 x 8 codes an image: sequences are short, and a shape is 2 x 2 to 4 x 4 of them.
TOKENIZER = VQVAEConfig(
    image_size=64,
    widths=(32, 96, 192),
    code_dim=32,
    codebook_size=1024,
    strides=(2, 2, 2),
    res_blocks=2,
    res_width=64,
    pixel_mean=(0.5, 0.5, 0.5),
    pixel_std=(0.5, 0.5, 0.5),
)
# No caption is longer than 18 pieces.
TRANSFORMER = cogview.TransformerConfig(
    width=192, depth=6, heads=3, text_len=18, positions="fixed", dropout=0.0, unroll=6
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
        sizes = cogview.TOKENIZERS if stage == "tokenizer" else cogview.TRANSFORMERS
        config.model = dataclasses.asdict(sizes["nano"])
        config.train.update(
            {"steps": 20, "batch_size": 8, "save_every": 10, "eval_every": 10}
        )
        config.train.update({"log_every": 5, "sample_every": 20})
        config.eval.batches = 1
    return config


def _tokenizer() -> ml_collections.ConfigDict:
    config = _common()
    config.task = {"name": "vq", "method": "ema"}
    config.model = dataclasses.asdict(TOKENIZER)
    config.optim = {"lr": 2e-3, "warmup": 100, "weight_decay": 0.0, "b2": 0.99}
    config.train.update({"steps": 2700, "batch_size": 16, "ema_decay": 0.995})
    return config


def _transformer() -> ml_collections.ConfigDict:
    config = _common()
    config.task = {
        "name": "lm",
        "image_to_text": 0.25,
        "caption_weight": 4.0,
        "caption_dropout": 0.1,
        # Captions are written by a grammar: there is little to learn from them alone.
        "text_weight": 0.1,
    }
    config.model = dataclasses.asdict(TRANSFORMER)
    config.data = {
        "path": "data/easy",
        "tokenizer": "runs/vq/export",
        "text": "runs/text.model",
    }
    config.optim = {
        "name": "muon",
        "lr": 0.02,
        "adam_lr": 3e-3,
        "warmup": 100,
        "final_ratio": 0.05,
    }
    config.train.update({"steps": 11900, "batch_size": 16, "ema_decay": 0.998})
    config.sample = {
        "prompts": PROMPTS,
        "num_images": 4,
        "sampler": {"temperature": 0.65, "top_p": 0.95, "guidance": 2.5},
    }
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
