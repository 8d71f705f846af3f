"""What the CLIP configs of small data sets have in common."""

import dataclasses

import ml_collections

from cogjax.models.clip import ClipConfig

NETWORK = ClipConfig(
    image_size=64,
    patch=8,
    width=128,
    depth=4,
    embed_dim=128,
    text_width=128,
    text_len=24,
)
NANO = ClipConfig(16, 8, 64, 1, 16, 64, text_depth=1, text_len=12)


def make_config(arg: str, data: str, text_depth: int) -> ml_collections.ConfigDict:
    """`arg` is "" or "nano"; data: the folder of a data set."""
    if arg not in ("", "nano"):
        raise ValueError(f"the argument is {arg!r}, expected nano or none")
    config = ml_collections.ConfigDict()
    config.task = {"name": "clip"}
    config.model = _model(
        NANO if arg else dataclasses.replace(NETWORK, text_depth=text_depth)
    )
    config.data = {"path": data, "text": "runs/text.model"}
    # Section 2.5 and table 19, but for the rate: a small network takes a higher one.
    config.optim = {"lr": 1e-3, "warmup": 200, "b2": 0.98, "weight_decay": 0.2}
    config.mesh = {}
    config.train = {
        "seed": 0,
        "steps": 4000,
        "batch_size": 128,
        "ema_decay": 0.998,
        "log_every": 50,
        "save_every": 500,
        "eval_every": 500,
    }
    config.eval = {"batches": 4}
    if arg:
        rhythm = {"log_every": 5, "save_every": 10, "eval_every": 10}
        config.train.update({"steps": 20, "batch_size": 8, **rhythm})
        config.eval.batches = 1
    return config


def _model(network: ClipConfig) -> dict:
    """The section 'model': the text tokenizer decides on the vocabulary."""
    fields = dataclasses.asdict(network)
    del fields["vocab_size"]
    return fields
