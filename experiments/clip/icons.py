"""CLIP on `icons`: a judge and reranker that shares nothing with the generators.

    cogjax data icons --out data/icons
    cogjax tokenizer train --data data/icons --vocab-size 4000 --out runs/text.model
    cogjax train --config experiments/clip/icons.py --workdir runs/clip
    cogjax evaluate runs/clip --suite retrieval --data data/icons --out eval/clip
    cogjax generate "a red apple, 3D" --rerank 16 --rerank-by clip \
        --clip runs/clip/export --out images

`:nano` ends in a minute and shows that all parts work.
"""

import dataclasses

import ml_collections

from cogjax.models.clip import ClipConfig

# 1.97 M parameters with 4,000 pieces: below 4 MB in float16.
NETWORK = ClipConfig(
    image_size=64,
    patch=8,
    width=128,
    depth=4,
    embed_dim=128,
    text_width=128,
    text_depth=3,
    text_len=24,
)
NANO = ClipConfig(16, 8, 64, 1, 16, 64, text_depth=1, text_len=12)


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """`arg` is "" or "nano"."""
    if arg not in ("", "nano"):
        raise ValueError(f"the argument is {arg!r}, expected nano or none")
    config = ml_collections.ConfigDict()
    config.task = {"name": "clip"}
    config.model = _model(NANO if arg else NETWORK)
    config.data = {"path": "data/icons", "text": "runs/text.model"}
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
