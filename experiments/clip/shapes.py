"""CLIP on the world of shapes: does it see what a caption states?

    cogjax data shapes --out data/easy --n 80000 --easy
    cogjax tokenizer train --data data/easy --vocab-size 640 --out runs/text.model
    cogjax train --config experiments/clip/shapes.py --workdir runs/clip
    cogjax evaluate runs/clip --suite retrieval --data data/easy --out eval/clip
    cogjax generate "two blue squares" --model shapes --rerank 16 --rerank-by clip \
        --clip runs/clip/export --out images

`:nano` ends in a minute and shows that all parts work.
"""

import ml_collections
from cogjax.experiments.clip.small_clip import make_config


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """`arg` is "" or "nano"."""
    # 1.74 M parameters with 640 pieces: below 4 MB in float16.
    return make_config(arg, "data/easy", text_depth=4)
