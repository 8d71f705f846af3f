"""CogView's 4B transformer at the paper's batch (section 3.1).

    cogjax plan --config experiments/cogview/paper.py --topology v5p:4x4x8
    cogjax train --config experiments/cogview/paper.py --workdir runs/4b \
        --config.data.path=DATA --config.data.tokenizer=DIR --config.data.text=FILE

6,144 sequences an update, 144,000 updates, text to image alone. Our other configs read
images too and drop some texts for guidance: that would be `--config.task.image_to_text`
0.25 and `--config.task.caption_dropout` 0.1 here. `:release` goes on from released
weights: it computes as the public code does. A plan needs no data: without a tokenizer
it takes the paper's sizes, 8,192 codes of 32 x 32 and 50,000 text pieces.
"""

import dataclasses

import ml_collections

from cogjax.families.cogview import presets as cogview


def get_config(arg: str = "paper") -> ml_collections.ConfigDict:
    """Sections of the run; `arg` is "paper" or "release"."""
    if arg not in ("paper", "release"):
        raise ValueError(f"the argument is {arg!r}, expected paper, release")
    config = ml_collections.ConfigDict()
    config.task = {"name": "lm", "image_to_text": 0.0, "caption_dropout": 0.0}
    config.model = dataclasses.asdict(cogview.TRANSFORMERS[arg])
    config.data = {"path": "", "tokenizer": "", "text": ""}
    config.optim = {"lr": 3e-4}
    config.mesh = {"data": -1, "fsdp": 32, "tensor": 1}
    config.train = {"steps": 144_000, "batch_size": 6144}
    return config
