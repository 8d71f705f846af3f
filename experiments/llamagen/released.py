"""LlamaGen, trained on from its release, or planned at its sizes.

    cogjax import c2i_B_384.pt vq_ds16_c2i.pt args.json imagenet_class_index.json \
        --out llamagen
    cogjax train --config experiments/llamagen/released.py --workdir runs/llamagen \
        --config.data.weights=llamagen --config.data.path=DATA
    cogjax plan --config experiments/llamagen/released.py:xl --topology v5e:4x4

    cogjax import t2i_XL_stage1_256.pt vq_ds16_t2i.pt flan-t5-xl --out llamagen-t2i
    cogjax train --config experiments/llamagen/released.py:captions \
        --workdir runs/captions --config.data.weights=llamagen-t2i \
        --config.data.path=DATA

For a model of classes the captions of the data set are their numbers or names; vectors
of others are made once a run, or before by `cogjax encode-text`. Learning rate, weight
decay and batch are those of its training (table 8); it also drops out a tenth of what
branches give: --config.model.dropout=0.1.
"""

import ml_collections


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """`arg` is a size for a plan, b, l, xl, xxl or 3b, or "" for that of data.weights.

    For captions it is "captions", or "captions,xl-256" or "captions,xl-512".
    """
    name, size, sampler = "llamagen", arg, {"top_k": 2000, "guidance": 4.0}
    if arg.startswith("captions"):
        name, size = "llamagen_captions", arg.partition(",")[2]
        sampler = {"top_k": 1000, "guidance": 7.5}
    config = ml_collections.ConfigDict()
    config.task = {"name": name, "caption_dropout": 0.1}
    config.model = {"size": size, "dtype": "bfloat16", "remat": "nothing_saveable"}
    config.data = {"path": "", "weights": ""}
    config.optim = {
        "lr": 1e-4,
        "schedule": "constant",
        "warmup": 100,
        "weight_decay": 0.05,
    }
    config.mesh = {"data": -1, "fsdp": 8, "tensor": 1}
    config.train = {"steps": 10_000, "batch_size": 256, "ema_decay": 0.99}
    # For a plan; what is trained on samples as it was imported.
    config.sample = {"prompts": (), "sampler": sampler if size else {}}
    return config
