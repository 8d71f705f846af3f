"""CogView's 4B transformer at the paper's batch (section 3.1).

    cogjax plan --config experiments/cogview/paper.py --topology v5p:4x4x8
    cogjax train --config experiments/cogview/paper.py --workdir runs/4b \
        --config.data.path=DATA --config.data.tokenizer=DIR --config.data.text=FILE

6,144 sequences an update, 144,000 updates. A plan needs no data: without a tokenizer it
takes the paper's sizes, 8,192 codes of 32 x 32 and 50,000 text pieces.
"""

import dataclasses

import ml_collections

from cogjax.families.cogview import presets as cogview


def get_config() -> ml_collections.ConfigDict:
    """Sections of the run."""
    config = ml_collections.ConfigDict()
    config.task = {"name": "lm"}
    config.model = dataclasses.asdict(cogview.TRANSFORMERS["paper"])
    config.data = {"path": "", "tokenizer": "", "text": ""}
    config.optim = {"lr": 3e-4}
    config.mesh = {"data": -1, "fsdp": 32, "tensor": 1}
    config.train = {"steps": 144_000, "batch_size": 6144}
    return config
