"""DALL-E mini and mega, trained on from their release, or planned at their sizes.

    cogjax import dalle-mini vqgan_imagenet_f16_16384 --out mini
    cogjax train --config experiments/dalle_mini/released.py --workdir runs/mini \
        --config.data.weights=mini --config.data.path=DATA
    cogjax plan --config experiments/dalle_mini/released.py:mega --topology v5e:4x4

The loss is that of its tools/train: codes alone. Learning rate, batch and steps are
ours, to be set for the data at hand; a tenth of the texts is left out, so that guidance
stays what it was.
"""

import ml_collections


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """`arg` is a size for a plan, mini or mega; "" is that of data.weights."""
    config = ml_collections.ConfigDict()
    config.task = {"name": "dalle_mini", "caption_dropout": 0.1}
    config.model = {"size": arg, "dtype": "bfloat16", "remat": "nothing_saveable"}
    config.data = {"path": "", "weights": ""}
    config.optim = {"lr": 1e-5, "schedule": "constant", "warmup": 100}
    config.mesh = {"data": -1, "fsdp": 8, "tensor": 1}
    config.train = {"steps": 10_000, "batch_size": 64, "ema_decay": 0.99}
    # For a plan; what is trained on samples as it was imported.
    sampler = {"guidance": 10.0} if arg else {}
    config.sample = {"prompts": (), "sampler": sampler}
    return config
