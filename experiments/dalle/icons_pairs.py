"""DALL-E on pairs of `icons`: an image the same in another style.

    cogjax data icons --out data/icons
    cogjax encode --data data/icons --tokenizer experiments/cogview/icons_tokenizer \
        --out data/icons-codes
    cogjax data pairs data/icons-codes --out data/icons-pairs
    cogjax train --config experiments/dalle/icons_pairs.py --workdir runs/pairs
    cogjax generate --image cat.png --as "line drawing" --model runs/pairs/export \
        --out images

`--config.data.weights=runs/lm/export` starts from a DALL-E of single images with the
same sizes, codes and pieces. `:nano` ends in a minute and shows that all parts work.
"""

import ml_collections
from cogjax.experiments.dalle.small_dalle import MUON, make_config

TRANSFORMER = {
    # Two of the layers see columns: only they see the source from all of the target.
    "model": {"width": 192, "heads": 3},
    "task": {"caption_dropout": 0.1},
    "data": {
        "path": "data/icons-pairs",
        "tokenizer": "experiments/cogview/icons_tokenizer",
        "text": "experiments/cogview/icons_start",
    },
    "optim": MUON,
    "train": {"steps": 8000, "batch_size": 16, "products": "bfloat16"},
    "sample": {
        "prompts": ("line drawing", "3D render", "blue outline icon", "扁平插画"),
        "sampler": {"temperature": 0.8, "top_p": 0.95, "guidance": 2.0},
    },
}


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """`arg` is a size, "" or "nano"."""
    stage = f"transformer,{arg}" if arg else "transformer"
    config = make_config(stage, {}, TRANSFORMER)
    config.model.images = 2
    return config
