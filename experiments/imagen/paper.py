"""Imagen at the paper's sizes and batches: three stages, each trained alone.

    cogjax train --config experiments/imagen/paper.py:base --workdir runs/base --dry-run
    cogjax train --config experiments/imagen/paper.py:super --workdir runs/super \
        --config.data.path=DATA --config.data.text=T5 --config.data.vectors=VECTORS \
        --config.data.below=runs/base/export

`super_1024` is the last stage, trained on squares of 256 of its 1,024 pixels. T5 is a
folder of Hugging Face's v1.1 XXL, VECTORS one of `cogjax encode-text`. Three things are
not the paper's. The base has AdamW where it had Adafactor. Its cosine is printed to end
at a learning rate of 2,500,000; here it ends at 0. The rate of the moving average is
not said; this is the usual one.
"""

import dataclasses

import ml_collections

from cogjax.families.imagen.presets import BATCH_SIZE, STAGES, STEPS

_PLACES = {"base": 0, "super": 1, "super_1024": 2}  # in the cascade


def get_config(arg: str = "base") -> ml_collections.ConfigDict:
    """`arg` is a stage."""
    if arg not in _PLACES:
        raise ValueError(f"the argument is {arg!r}, expected {', '.join(_PLACES)}")
    config = ml_collections.ConfigDict()
    config.task = {
        "name": "imagen" if arg == "base" else "imagen_super",
        "prediction": "eps",
    }
    if arg == "super_1024":
        config.task.update({"schedule": "linear", "crop": 256})
    config.model = dataclasses.asdict(STAGES["paper"][_PLACES[arg]])
    config.model.dtype = "bfloat16"
    config.data = {"path": "", "text": "", "vectors": "", "below": ""}
    # Appendix B: no weight decay, Adam as it is.
    config.optim = {
        "lr": 1e-4,
        "warmup": 10_000,
        "final_ratio": 0.0,
        "b2": 0.999,
        "weight_decay": 0.0,
        "clip": 0.0,
    }
    config.mesh = {"data": -1, "fsdp": 8, "tensor": 1}
    config.train = {"steps": STEPS, "batch_size": BATCH_SIZE, "ema_decay": 0.9999}
    return config
