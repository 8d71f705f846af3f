"""CogView's 4B transformer at the paper's batch (section 3.1), and CogView-fashion.

    cogjax plan --config experiments/cogview/paper.py --topology v5p:4x4x8
    cogjax plan --config experiments/cogview/paper.py:fashion --topology v5p:4x4x8
    cogjax train --config experiments/cogview/paper.py --workdir runs/4b \
        --config.data.path=DATA --config.data.tokenizer=DIR --config.data.text=FILE

6,144 sequences an update, 144,000 updates, text to image alone. Our other configs read
images too and drop some texts for guidance: that would be `--config.task.image_to_text`
0.25 and `--config.task.caption_dropout` 0.1 here. `:release` goes on from released
weights: it computes as the public code does. A plan needs no data: without a tokenizer
it takes the paper's sizes, 8,192 codes of 32 x 32 and 50,000 text pieces.

`:fashion` is section 3.5: 3B, 50 x 50 codes of a VQGAN for 800 px, window and pivots
(docs/fashion.md). The paper gives neither batch nor updates for its 10 million pairs:
ours are as many tokens an update, and 10 passes.
"""

import dataclasses

import ml_collections

from cogjax.families.cogview import presets as cogview

_PAPER = {"steps": 144_000, "batch_size": 6144}
_TRAIN = {
    "paper": _PAPER,
    "release": _PAPER,
    "fashion": {"steps": 39_063, "batch_size": 2560},
}


def get_config(arg: str = "paper") -> ml_collections.ConfigDict:
    """Sections of the run; `arg` is "paper", "release" or "fashion"."""
    if arg not in _TRAIN:
        raise ValueError(f"the argument is {arg!r}, expected {', '.join(_TRAIN)}")
    config = ml_collections.ConfigDict()
    config.task = {"name": "lm", "image_to_text": 0.0, "caption_dropout": 0.0}
    config.model = dataclasses.asdict(cogview.TRANSFORMERS[arg])
    config.data = {"path": "", "tokenizer": "", "text": ""}
    config.optim = {"lr": 3e-4}
    config.mesh = {"data": -1, "fsdp": 32, "tensor": 1}
    config.train = _TRAIN[arg]
    return config
