"""ERNIE-ViLG's 10B transformer, for `cogjax plan`; batch and steps are CogView's.

    cogjax plan --config experiments/ernie_vilg/paper.py --topology v5p:4x4x8

Training it needs the bidirectional masks and losses, which are not here yet.
"""

import dataclasses

import ml_collections

from cogjax.families import ernie_vilg


def get_config() -> ml_collections.ConfigDict:
    """Sections of the run."""
    config = ml_collections.ConfigDict()
    config.task = {"name": "ernie_vilg"}
    config.model = dataclasses.asdict(ernie_vilg.TRANSFORMERS["paper"])
    config.mesh = {"data": -1, "fsdp": 32, "tensor": 1}
    config.train = {
        "steps": ernie_vilg.STEPS,
        "batch_size": ernie_vilg.BATCH_SIZE,
        "accumulate": 2,
    }
    return config
