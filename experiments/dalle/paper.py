"""DALL-E's 12B transformer at the paper's batch, for `cogjax plan`.

    cogjax plan --config experiments/dalle/paper.py --topology v5p:4x4x8
    cogjax plan --config experiments/dalle/paper.py:powersgd --topology v5p:4x4x8

Training it needs a tokenizer and DALL-E's text layout, which are not here yet.
"""

import dataclasses

import ml_collections

from cogjax.families.dalle import presets as dalle

# Appendix E: the rank of all 8 shards of a matrix together.
POWERSGD = {"rank": 896, "basis": "fixed", "bits": 16}


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """Sections of the run; `arg` "powersgd" compresses gradients between nodes."""
    if arg not in ("", "powersgd"):
        raise ValueError(f"the argument is {arg!r}, expected powersgd or none")
    config = ml_collections.ConfigDict()
    config.task = {"name": "dalle"}
    config.model = dataclasses.asdict(dalle.TRANSFORMERS["paper"])
    config.optim = {"lr": 4.5e-4, "b2": 0.96, "weight_decay": 4.5e-2, "clip": 4.0}
    if arg:
        config.optim.powersgd = POWERSGD
    # Shards of 496 rows: 3968 over 128 chips would not fill the tiles of a TPU.
    config.mesh = {"data": -1, "fsdp": 8, "tensor": 1}
    config.train = {"steps": dalle.STEPS, "batch_size": dalle.BATCH_SIZE}
    return config
