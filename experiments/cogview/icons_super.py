r"""CogView's super-resolution on `icons`: 64 px, 8 x 8 codes, to 128 px, 16 x 16 codes.

    cogjax data icons --out data/icons
    cogjax train --config experiments/cogview/icons_super.py --workdir runs/super
    cogjax generate "a red apple, 3D" --model runs/lm/export \
        --enlarge runs/super/export --out images
    python experiments/cogview/judge_super.py --model runs/super/export \
        --icons data/icons --out runs/super_judged

Both images are coded by the tokenizer of `icons.py`, whose convolutions take any
multiple of 8 px. The transformer has the sizes of `icons.py` and starts from its
weights: `--config.data.weights=runs/lm/export` takes others. `:nano` ends in a minute
and shows that all parts work. Not trained to a result yet: docs/super_resolution.md.
"""

import dataclasses
from pathlib import Path

import ml_collections
from cogjax.experiments.cogview.icons import TRANSFORMER

from cogjax.families.cogview import presets as cogview

_HERE = Path(__file__).parent


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """`arg` is "", or "nano"."""
    if arg not in ("", "nano"):
        raise ValueError(f"the argument is {arg!r}, expected nothing or nano")
    config = ml_collections.ConfigDict()
    config.task = {"name": "super", "image_size": 128}
    config.model = dataclasses.asdict(TRANSFORMER)
    config.data = {
        "path": "data/icons",
        "tokenizer": str(_HERE / "icons_tokenizer"),
        "text": str(_HERE / "icons_start"),
        "weights": str(_HERE / "icons_start"),
    }
    config.optim = {
        "name": "muon",
        "lr": 0.01,
        "adam_lr": 2e-3,
        "warmup": 50,
        "final_ratio": 0.05,
    }
    config.mesh = {}
    config.train = {
        "seed": 0,
        "steps": 12_000,
        "batch_size": 16,
        "ema_decay": 0.998,
        "log_every": 50,
        "save_every": 250,
        "eval_every": 500,
        "sample_every": 500,
    }
    config.eval = {"batches": 8}
    config.sample = {"num_images": 8, "sampler": {"temperature": 0.7, "top_p": 0.9}}
    if arg == "nano":
        nano = dataclasses.replace(cogview.TRANSFORMERS["nano"], positions="fixed")
        config.model = dataclasses.asdict(nano)
        config.data.weights = ""
        config.train.update(
            {"steps": 20, "batch_size": 8, "save_every": 10, "eval_every": 10}
        )
        config.train.update({"log_every": 5, "sample_every": 20})
        config.eval.batches = 1
    return config
