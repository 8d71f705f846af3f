"""A batch of each family, and what gradients of public code are compared by.

`cases/gradients/NAME.json` has the loss and, of the gradient of each tensor, its length
and its product with random numbers; `record_gradients.py` writes it.
"""

import json
import zlib
from pathlib import Path

import numpy as np

from cogjax.families.dalle_mini import layout as dalle_mini_layout
from cogjax.families.llamagen import layout as llamagen_layout
from cogjax.families.mindalle import layout as mindalle_layout
from cogjax.families.rudalle import layout as rudalle_layout
from tests.importing import dalle_mini, decoders

FOLDER = Path(__file__).parent / "cases" / "gradients"
_RUDALLE = rudalle_layout.Vocab(24, 20, 40)
LAYOUTS = {
    "mindalle": mindalle_layout.Layout(
        mindalle_layout.Vocab(24, len(decoders.PIECES), len(decoders.PIECES), 60), 6, 16
    ),
    "rudalle-v2": rudalle_layout.Layout(_RUDALLE, 6, 144, shifted=True),
    "rudalle-v3": rudalle_layout.Layout(_RUDALLE, 6, 144, shifted=False),
    "llamagen-c2i": llamagen_layout.Layout(llamagen_layout.Vocab(24, 10, False), 1, 25),
    "dalle-mini": dalle_mini_layout.Layout(
        dalle_mini_layout.PairVocab(24, 25, len(dalle_mini.VOCAB)), 12, 256
    ),
}
# One that is long and one of a few pieces, or of none.
PIECES = {
    "mindalle": [[3, 5, 8], [9] * 8],
    "rudalle-v2": [[4, 9, 10], []],
    "rudalle-v3": [[4, 9, 10, 16, 14, 6], []],
    "llamagen-c2i": [[3], []],
    "dalle-mini": [[7, 40, 200], []],
}


def codes(name):
    """int32 [2, image_len]."""
    size = 2, LAYOUTS[name].image_len
    return np.random.default_rng(5).integers(24, size=size).astype(np.int32)


def captions():
    """LlamaGen's: (vectors [2, n, f], the last of which are there, counts [2])."""
    config = decoders.T2I
    shape = 2, config.table_positions, config.caption_dim
    vectors = np.random.default_rng(6).normal(size=shape).astype(np.float32)
    counts = np.array([shape[1], 2])
    there = np.arange(shape[1]) >= shape[1] - counts[:, None]
    return vectors * there[..., None], counts


def summary(gradients):
    """{name: [length, product with numbers of the name's own]}."""
    found = {}
    for name, x in sorted(gradients.items()):
        x = np.asarray(x, np.float64)
        numbers = np.random.default_rng(zlib.crc32(name.encode())).normal(size=x.shape)
        found[name] = [float(np.linalg.norm(x)), float(np.sum(x * numbers))]
    return found


def read(name):
    """(loss, summary) of the public code."""
    stored = json.loads((FOLDER / f"{name}.json").read_text())
    return stored["loss"], stored["gradients"]


def write(name, loss, gradients):
    """As `read` reads it."""
    FOLDER.mkdir(exist_ok=True)
    stored = {"loss": float(loss), "gradients": summary(gradients)}
    (FOLDER / f"{name}.json").write_text(json.dumps(stored, indent=1) + "\n")
