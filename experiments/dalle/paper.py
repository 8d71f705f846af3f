"""DALL-E at the paper's sizes and batches.

    cogjax plan --config experiments/dalle/paper.py --topology v5p:4x4x8
    cogjax plan --config experiments/dalle/paper.py:powersgd --topology v5p:4x4x8
    cogjax train --config experiments/dalle/paper.py:tokenizer --workdir runs/dvae \
        --config.data.path=DATA
    cogjax train --config experiments/dalle/paper.py:transformer --workdir runs/12b \
        --config.data.path=DATA --config.data.tokenizer=DIR --config.data.text=FILE

The default is the 12B transformer: 1,024 pairs an update, 430,000 updates. A plan needs
no data: without a tokenizer it takes the paper's sizes. The text tokenizer is one of
16,384 pieces, `cogjax tokenizer train --lower-case`. Two things are not the paper's. It
halves the learning rate five times, where the loss stops falling; a cosine ends at the
same share here. Its activations are float16 with a gradient scale for each residual
branch: --config.model.dtype=float16 --config.model.gradient_scale=resblock.
"""

import dataclasses

import ml_collections

from cogjax.families.dalle import presets as dalle

# Appendix E: the rank of all 8 shards of a matrix together.
POWERSGD = {"rank": 896, "basis": "fixed", "bits": 16}


def get_config(arg: str = "transformer") -> ml_collections.ConfigDict:
    """`arg` is a stage; "powersgd": the transformer, its gradients compressed."""
    stages = {"tokenizer": _tokenizer, "transformer": _transformer}
    stages["powersgd"] = _powersgd
    if arg not in stages:
        raise ValueError(f"the argument is {arg!r}, expected {', '.join(stages)}")
    return stages[arg]()


def _powersgd() -> ml_collections.ConfigDict:
    """Between nodes (appendix E)."""
    config = _transformer()
    config.optim.powersgd = POWERSGD
    return config


def _tokenizer() -> ml_collections.ConfigDict:
    """Appendix A.2."""
    config = ml_collections.ConfigDict()
    config.task = {"name": "dvae"}
    config.model = dataclasses.asdict(dalle.TOKENIZERS["paper"])
    config.data = {"path": ""}
    config.optim = {
        "lr": 1e-4,
        "warmup": 0,
        "decay": 1_200_000,
        "final_ratio": 1 / 80,
        "b2": 0.999,
        "weight_decay": 1e-4,
        "clip": 0.0,
    }
    config.mesh = {"data": -1, "fsdp": 1, "tensor": 1}
    config.train = {"steps": 3_000_000, "batch_size": 512, "ema_decay": 0.999}
    return config


def _transformer() -> ml_collections.ConfigDict:
    """Appendix B.2."""
    config = ml_collections.ConfigDict()
    config.task = {"name": "dalle"}
    config.model = dataclasses.asdict(dalle.TRANSFORMERS["paper"])
    config.data = {"path": "", "tokenizer": "", "text": ""}
    config.optim = {
        "lr": 4.5e-4,
        "warmup": 5000,
        "final_ratio": 1 / 32,
        "b2": 0.96,
        "weight_decay": 4.5e-2,
        "decay_embeddings": False,
        "clip": 4.0,
        "moments": "16bit",
    }
    # Shards of 496 rows: 3968 over 128 chips would not fill the tiles of a TPU.
    config.mesh = {"data": -1, "fsdp": 8, "tensor": 1}
    config.train = {"steps": dalle.STEPS, "batch_size": dalle.BATCH_SIZE}
    return config
