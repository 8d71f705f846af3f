"""ru-dalle, trained on from its release, or planned at its size.

    cogjax import pytorch_model_v3.bin vqgan.gumbelf8-sber.model.ckpt bpe.model \
        --out malevich
    cogjax train --config experiments/rudalle/released.py --workdir runs/malevich \
        --config.data.weights=malevich --config.data.path=DATA
    cogjax plan --config experiments/rudalle/released.py:v3 --topology v5e:4x4

The loss is that of its `forward`, codes weighing 7 times as much as texts. The learning
rate, batch and steps are ours, to be set for the data at hand.
"""

import ml_collections


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """`arg` is a version for a plan, v2 or v3; "" is that of data.weights."""
    config = ml_collections.ConfigDict()
    config.task = {"name": "rudalle", "text_share": 1 / 8, "caption_dropout": 0.0}
    config.model = {"size": arg, "dtype": "bfloat16", "remat": "nothing_saveable"}
    config.data = {"path": "", "weights": ""}
    config.optim = {"lr": 1e-5, "schedule": "constant", "warmup": 100}
    config.mesh = {"data": -1, "fsdp": 8, "tensor": 1}
    config.train = {"steps": 10_000, "batch_size": 64, "ema_decay": 0.99}
    # For a plan; what is trained on samples as it was imported.
    sampler = {"top_k": 2048, "top_p": 0.995} if arg else {}
    config.sample = {"prompts": (), "sampler": sampler}
    return config
