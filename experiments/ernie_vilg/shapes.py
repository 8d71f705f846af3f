"""ERNIE-ViLG on the compositional world, beside CogView of the same size and budget.

    cogjax data shapes --out data/shapes --n 60000
    cogjax data shapes --out data/easy --n 80000 --easy
    cogjax tokenizer train --data data/shapes --vocab-size 640 --out runs/text.model
    cogjax train --config experiments/cogview/shapes.py:tokenizer --workdir runs/vq
    cogjax train --config experiments/ernie_vilg/shapes.py:transformer --workdir runs/ev

Data, tokenizers, width, depth and optimiser are those of experiments/cogview/shapes.py.
An update is 8 images in both directions: 16 sequences, as there.
`:full` has full attention in all layers. `:from_cogview` too, and starts from the
shipped CogView with its tokenizers, so that no run but the last is needed. `,nano`
behind the first two ends in a minute.
"""

import dataclasses

import ml_collections

from cogjax.families.ernie_vilg import presets as ernie_vilg

PROMPTS = (
    "a red circle",
    "两个蓝色的正方形",
    "five stars",
    "a green heart to the left of a black ring",
    "一个黄色圆形在一个紫色三角形的上方",
    "a large brown cross and a small pink diamond",
)
# No caption is longer than 18 pieces.
TRANSFORMER = ernie_vilg.TransformerConfig(
    width=192, depth=6, heads=3, text_len=18, dropout=0.0, unroll=6
)


def get_config(arg: str = "transformer") -> ml_collections.ConfigDict:
    """`arg` is the kind of attention, optionally followed by ",nano"."""
    attention = {"transformer": "sparse", "full": "full", "from_cogview": "full"}
    stage, _, size = arg.partition(",")
    if stage not in attention or size not in ("", "nano"):
        raise ValueError(
            f"the argument is {arg!r}, expected {', '.join(attention)}, "
            "optionally followed by ,nano"
        )
    config = _transformer()
    if stage == "from_cogview":
        if size:
            raise ValueError(f"the argument is {arg!r}: from_cogview has one size")
        _start_from_cogview(config)
    if size == "nano":
        config.model = dataclasses.asdict(ernie_vilg.TRANSFORMERS["nano"])
        config.train.update(
            {"steps": 20, "batch_size": 8, "save_every": 10, "eval_every": 10}
        )
        config.train.update({"log_every": 5, "sample_every": 20})
        config.eval.batches = 1
    config.model.attention = attention[stage]
    return config


def _start_from_cogview(config: ml_collections.ConfigDict) -> None:
    # The shipped model's layers: sandwich-LN and PB-Relax.
    config.model.update({"sandwich": True, "norm_scope": "token"})
    config.data.update({"tokenizer": "shapes", "text": "shapes", "weights": "shapes"})
    # At 0.01 it forgot how to generate within 100 updates.
    config.optim.update({"lr": 0.003, "adam_lr": 1e-3, "warmup": 20})
    config.train.update({"steps": 1000, "batch_size": 12, "ema_decay": 0.99})
    config.train.update({"save_every": 100, "eval_every": 100, "log_every": 20})


def _transformer() -> ml_collections.ConfigDict:
    config = ml_collections.ConfigDict()
    config.task = {"name": "ernie_vilg", "caption_dropout": 0.1}
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
        # The loss is a sum over the 64 codes and some 12 text tokens of an example.
        "clip": 76.0,
    }
    config.mesh = {}
    config.train = {
        "seed": 0,
        "steps": 11900,
        "batch_size": 8,
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
        "sampler": {"temperature": 0.65, "top_p": 0.95, "guidance": 2.5},
    }
    return config
