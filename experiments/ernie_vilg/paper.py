"""ERNIE-ViLG's 10B transformer; what the paper does not state is CogView's or ours.

    cogjax plan --config experiments/ernie_vilg/paper.py --topology v5p:4x4x8
    cogjax train --config experiments/ernie_vilg/paper.py --workdir runs/10b \
        --config.data.path=DATA --config.data.tokenizer=DIR --config.data.text=FILE

An update is both directions of all pairs of the batch: so many sequences each.
"""

import dataclasses

import ml_collections

from cogjax.families import ernie_vilg


def get_config() -> ml_collections.ConfigDict:
    """Sections of the run."""
    paper = ernie_vilg.TRANSFORMERS["paper"]
    config = ml_collections.ConfigDict()
    config.task = {"name": "ernie_vilg"}
    config.model = dataclasses.asdict(paper)
    config.data = {"path": "", "tokenizer": "", "text": ""}
    config.mesh = {"data": -1, "fsdp": 32, "tensor": 1}
    config.train = {
        "steps": ernie_vilg.STEPS,
        "batch_size": ernie_vilg.BATCH_SIZE,
        "accumulate": 2,
    }
    return config
