"""CLIP on `icons`: a judge and reranker that shares nothing with the generators.

    cogjax data icons --out data/icons
    cogjax tokenizer train --data data/icons --vocab-size 4000 --out runs/text.model
    cogjax train --config experiments/clip/icons.py --workdir runs/clip
    cogjax evaluate runs/clip --suite retrieval --data data/icons --out eval/clip
    cogjax generate "a red apple, 3D" --rerank 16 --rerank-by clip \
        --clip runs/clip/export --out images

These made the shipped `clip-icons` in 76 minutes of a CPU core. `:nano` ends in a
minute and shows that all parts work.
"""

import ml_collections
from cogjax.experiments.clip.small_clip import make_config


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """`arg` is "" or "nano"."""
    config = make_config(arg, "data/icons", text_depth=3)
    # 22,230 images are few: without these they are learnt by heart, and their styles
    # in place of what they show (docs/clip.md).
    config.task.update({"crop": 0.75, "labels": 0.6, "recolor": 0.5})
    if not arg:
        # 1.9 M parameters with 4,000 pieces: below 4 MB in float16. 16 positions an
        # image are twice as fast as 64, and as good.
        config.model.update({"stem": (24, 48, 96, 160), "patch": 16, "depth": 3})
        config.optim = {
            "name": "muon",
            "lr": 0.02,
            "adam_lr": 3e-3,
            "warmup": 100,
            "final_ratio": 0.05,
        }
        config.train.update({"steps": 3500, "batch_size": 256})
    return config
