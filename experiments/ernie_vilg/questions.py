"""ERNIE-ViLG learns to answer questions: a second run from trained weights.

    cogjax data shapes --out data/questions --n 20000 --easy --seed 1 --questions
    cogjax train --config experiments/ernie_vilg/questions.py --workdir runs/vqa
    cogjax ask image.png "how many stars are there?" --model runs/vqa/export

Each image is learnt in both directions as before, so that nothing is forgotten, and
beside it 8 questions about another (`data.questions`; your own: `cogjax data
questions`) in one sequence.
The argument is "shapes" or "shapes,nano"; the former takes 20 minutes of one CPU core.
"from_cogview" starts from the shipped CogView and with its tokenizers in place of
runs/ev/export: both directions and the answers are learnt together.
"""

import dataclasses

import ml_collections

from cogjax.families.ernie_vilg import presets as ernie_vilg

# As experiments/ernie_vilg/shapes.py, with room for questions of up to 22 pieces.
TRANSFORMER = ernie_vilg.TransformerConfig(
    width=192, depth=6, heads=3, text_len=22, dropout=0.0, unroll=6
)


def get_config(arg: str = "shapes") -> ml_collections.ConfigDict:
    """`arg` is "shapes", optionally followed by ",nano"."""
    if arg not in ("shapes", "shapes,nano", "from_cogview"):
        raise ValueError(
            f"the argument is {arg!r}, expected shapes, shapes,nano or from_cogview"
        )
    config = ml_collections.ConfigDict()
    config.task = {
        "name": "ernie_vilg",
        "caption_dropout": 0.1,
        "questions": 8,
        "answer_len": 5,
        "answer_weight": 2.0,
    }
    config.model = dataclasses.asdict(TRANSFORMER)
    config.data = {
        "path": "data/easy",
        "questions": "data/questions",
        "tokenizer": "runs/vq/export",
        "text": "runs/text.model",
        "weights": "runs/ev/export",
    }
    config.optim = {
        "name": "muon",
        # With 4 questions, from weights of 2,000 steps: 100 steps at a third of these
        # rates and a weight of 1 had 4 % of answers right, these 51 %.
        "lr": 0.012,
        "adam_lr": 1.8e-3,
        "warmup": 20,
        "final_ratio": 0.05,
        "clip": 150.0,
    }
    config.mesh = {}
    config.train = {
        "seed": 0,
        "steps": 1200,
        "batch_size": 8,
        "ema_decay": 0.99,
        "log_every": 25,
        "save_every": 200,
        "eval_every": 200,
        "sample_every": 800,
    }
    config.eval = {"batches": 8}
    config.sample = {
        "prompts": ("a red circle", "两个蓝色的正方形", "five stars"),
        "num_images": 4,
        "sampler": {"temperature": 0.65, "top_p": 0.95, "guidance": 2.5},
    }
    if arg == "from_cogview":
        _start_from_cogview(config)
    if arg == "shapes,nano":
        config.model = dataclasses.asdict(ernie_vilg.TRANSFORMERS["nano"])
        config.train.update(
            {"steps": 4, "save_every": 2, "eval_every": 2, "log_every": 1}
        )
        config.train.sample_every = 4
        config.eval.batches = 1
    return config


def _start_from_cogview(config: ml_collections.ConfigDict) -> None:
    # The shipped model's layers: sandwich-LN and PB-Relax.
    layers = {"attention": "full", "sandwich": True, "norm_scope": "token"}
    config.model.update(layers)
    config.data.update({"tokenizer": "shapes", "text": "shapes", "weights": "shapes"})
    # At twice this rate it forgets to generate faster than it learns.
    config.optim.update({"lr": 0.005, "adam_lr": 7.5e-4, "final_ratio": 0.02})
    config.train.update({"steps": 1600})
