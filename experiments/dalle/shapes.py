"""DALL-E on the world of shapes, beside `experiments/cogview/shapes.py`.

    cogjax data shapes --out data/easy --n 80000 --easy
    cogjax train --config experiments/dalle/shapes.py:transformer --workdir runs/lm \
        --config.data.tokenizer=shapes --config.data.text=shapes \
        --config.train.products=bfloat16

trains the shipped `shapes-dalle` on the codes and pieces of the shipped `shapes`. With
a dVAE of its own, as the paper:

    cogjax tokenizer train --data data/easy --vocab-size 640 --lower-case \
        --out runs/text.model
    cogjax train --config experiments/dalle/shapes.py:tokenizer --workdir runs/dvae
    cogjax train --config experiments/dalle/shapes.py:transformer --workdir runs/lm

`:tokenizer,nano` and `:transformer,nano` end in a minute and show that all parts work.
"""

import ml_collections
from cogjax.experiments.dalle.small_dalle import MUON, make_config

PROMPTS = (
    "a red circle",
    "两个蓝色的正方形",
    "five stars",
    "a green heart to the left of a black ring",
)
TOKENIZER = {
    # 0.93 M parameters: with the transformer below 8 MB in float16.
    "model": {"width": 24},
    "task": {"temperature_steps": 2700, "kl_steps": 2700},
    "data": {"path": "data/easy"},
    "train": {"steps": 2700},
}
TRANSFORMER = {
    # Two layers more than the shipped `shapes`: two of the eight see columns.
    "model": {"width": 192, "depth": 8, "heads": 3, "unroll": 8},
    # Not the paper's: as `experiments/cogview/shapes.py`, for few images.
    "task": {"caption_dropout": 0.1},
    "data": {"path": "data/easy"},
    "optim": MUON,
    "train": {"steps": 11900, "batch_size": 16},
    "sample": {
        "prompts": PROMPTS,
        "sampler": {"temperature": 0.65, "top_p": 0.95, "guidance": 2.5},
    },
}


def get_config(arg: str = "transformer") -> ml_collections.ConfigDict:
    """`arg` is a stage, optionally followed by ",nano"."""
    return make_config(arg, TOKENIZER, TRANSFORMER)
