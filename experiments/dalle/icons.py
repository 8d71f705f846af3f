"""DALL-E on `icons`, beside `experiments/cogview/icons.py`.

    cogjax data icons --out data/icons
    cogjax tokenizer train --data data/icons --vocab-size 4000 --lower-case \
        --out runs/text.model
    cogjax train --config experiments/dalle/icons.py:tokenizer --workdir runs/dvae
    cogjax train --config experiments/dalle/icons.py:transformer --workdir runs/lm
    cogjax generate "a red apple, 3D" --model runs/lm/export --out images

`:tokenizer,nano` and `:transformer,nano` end in a minute and show that all parts work.
"""

import ml_collections
from cogjax.experiments.dalle.small_dalle import MUON, make_config

PROMPTS = (
    "a red apple, 3D",
    "一只猫的线稿",
    "flat illustration of a tiger",
    "a blue umbrella, two-tone icon",
)
# The draw cools over the whole run: little is learnt once it is cold.
TOKENIZER = {
    "task": {"temperature_steps": 6000, "kl_steps": 6000},
    "data": {"path": "data/icons"},
    "train": {"steps": 6000},
}
TRANSFORMER = {
    # Not the paper's: as `experiments/cogview/icons.py`, for few images.
    "task": {"caption_dropout": 0.05, "code_noise": 0.4},
    "data": {"path": "data/icons"},
    "optim": MUON,
    "train": {"steps": 12000, "batch_size": 32},
    "sample": {"prompts": PROMPTS},
}


def get_config(arg: str = "transformer") -> ml_collections.ConfigDict:
    """`arg` is a stage, optionally followed by ",nano"."""
    return make_config(arg, TOKENIZER, TRANSFORMER)
