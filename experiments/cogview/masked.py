"""MaskGIT on `icons`: the codes of an image together, in few steps (docs/masked.md).

    cogjax train --config experiments/cogview/masked.py --workdir runs/masked
    cogjax generate "a red apple, 3D" --model runs/masked/export --steps 8 --out images

Data, image tokenizer, texts and sizes are those of `icons.py`, whose first three
commands come before. `--config.data.weights=runs/lm/export` starts from its trained
transformer. `:nano` ends in a minute and shows that all parts work.
"""

import ml_collections
from cogjax.experiments.cogview.icons import get_config as get_icons


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """`arg` is "", or "nano"."""
    if arg not in ("", "nano"):
        raise ValueError(f"the argument is {arg!r}, expected nothing or nano")
    config = get_icons("transformer,nano" if arg else "transformer")
    config.task = {"name": "masked", "caption_dropout": 0.1}
    config.sample.sampler = {"guidance": 2.0}
    return config
