"""minDALL-E, trained on from its release, or planned at its size.

    cogjax import 1.3B 1.3B/tokenizer --out mindalle
    cogjax train --config experiments/mindalle/released.py --workdir runs/mindalle \
        --config.data.weights=mindalle --config.data.path=DATA
    cogjax plan --config experiments/mindalle/released.py:1.3b --topology v5e:4x4

Its authors published no loss of texts and images: the share of texts is DALL-E's. The
learning rate, batch and steps are ours, to be set for the data at hand.
"""

import ml_collections


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """`arg` is a size for a plan, 1.3b; "" is that of data.weights."""
    config = ml_collections.ConfigDict()
    config.task = {"name": "mindalle", "text_share": 1 / 8, "caption_dropout": 0.0}
    config.model = {"size": arg, "dtype": "bfloat16", "remat": "nothing_saveable"}
    config.data = {"path": "", "weights": ""}
    config.optim = {"lr": 1e-5, "schedule": "constant", "warmup": 100}
    config.mesh = {"data": -1, "fsdp": 8, "tensor": 1}
    config.train = {"steps": 10_000, "batch_size": 64, "ema_decay": 0.99}
    # For a plan; what is trained on samples as it was imported.
    sampler = {"top_k": 256} if arg else {}
    config.sample = {"prompts": (), "sampler": sampler}
    return config
