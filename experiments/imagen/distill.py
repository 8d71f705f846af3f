"""Imagen's cascade on shapes in few steps: each stage distilled, the base first.

    cogjax train --config experiments/imagen/distill.py:base --workdir runs/base-8
    cogjax train --config experiments/imagen/distill.py:super --workdir runs/super-4
    cogjax generate "a red circle" --model runs/super-4/export --out images

The runs are those of shapes.py: runs/super/export has both teachers. The students have
8 and 4 steps of DDIM, each of four of the teacher's, and the guidance inside.
`:base,nano` and `:super,nano` distil the nano stages.
"""

import ml_collections
from cogjax.experiments.imagen.shapes import get_config as trained

STEPS = {"base": 8, "super": 4}
GUIDANCE = {"base": 3.0, "super": 1.0}


def get_config(arg: str = "base") -> ml_collections.ConfigDict:
    """`arg` is a stage, optionally followed by ",nano"."""
    stage = arg.partition(",")[0]
    if stage not in STEPS:
        raise ValueError(f"the argument is {arg!r}, expected base or super")
    config = trained(arg)
    config.task = {
        "name": "imagen_distill" if stage == "base" else "imagen_super_distill",
        "steps": STEPS[stage],
        "substeps": 4,
        "guidance": GUIDANCE[stage],
    }
    config.data.weights = "runs/super/export"
    if stage == "super":
        config.data.below = "runs/base-8/export"
    # The student starts as its teacher, and is near it from the start.
    config.optim.update({"name": "adamw", "lr": 3e-4})
    if not arg.endswith(",nano"):
        config.train.steps = 4000 if stage == "base" else 1500
    return config
