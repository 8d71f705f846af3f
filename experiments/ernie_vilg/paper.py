"""ERNIE-ViLG's 10B transformer; numbers not in the paper are CogView's or ours.

    cogjax plan --config experiments/ernie_vilg/paper.py --topology v5p:4x4x8
    cogjax train --config experiments/ernie_vilg/paper.py --workdir runs/10b \
        --config.data.path=DATA --config.data.tokenizer=DIR --config.data.text=FILE

An update is both directions of all pairs of the batch: so many sequences each.
`:tokenizer` is the VQGAN before it, 256 pixels to 32 x 32 of 8,192 codes: the paper's
formula gives the commitment the weight 1, where others have 0.25.
`:end_to_end` also trains a reconstructor of 256 pixels, which the paper did for a small
model only, `:ablation`: 24 layers of 1,024 and DALL-E's decoder (section 4.4).
"""

import dataclasses

import ml_collections

from cogjax.families.ernie_vilg import presets as ernie_vilg
from cogjax.models.vqgan import VQGANConfig

# Section 4.4.
ABLATION = dataclasses.replace(
    ernie_vilg.TRANSFORMERS["paper"], width=1024, depth=24, heads=16
)
TOKENIZER = VQGANConfig(
    multipliers=(1, 1, 2, 4), attention=(32,), codebook_size=ernie_vilg.NUM_CODES
)
TASKS = {
    "tokenizer": {"name": "vqgan", "commitment": 1.0},
    "transformer": {"name": "ernie_vilg"},
    "end_to_end": {"name": "end_to_end", "reconstructor": {"kind": "vqvae"}},
    "ablation": {
        "name": "end_to_end",
        "pixels": "logit_laplace",
        "reconstructor": {"kind": "dvae", "width": 256},
    },
}


def get_config(arg: str = "transformer") -> ml_collections.ConfigDict:
    """Sections of the run; `arg` is one of `TASKS`."""
    if arg not in TASKS:
        raise ValueError(f"the argument is {arg!r}, expected {', '.join(TASKS)}")
    model = {"ablation": ABLATION, "tokenizer": TOKENIZER}.get(
        arg, ernie_vilg.TRANSFORMERS["paper"]
    )
    config = ml_collections.ConfigDict()
    config.task = TASKS[arg]
    config.model = dataclasses.asdict(model)
    config.data = {"path": "", "tokenizer": "", "text": ""}
    config.mesh = {"data": -1, "fsdp": 32, "tensor": 1}
    config.train = {
        "steps": ernie_vilg.STEPS,
        "batch_size": ernie_vilg.BATCH_SIZE,
        "accumulate": 2,
    }
    return config
