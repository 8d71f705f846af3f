"""The small networks of each family whose outputs public code has given.

`cases/NAME.npz` holds inputs and outputs; the weights are random numbers of a seed,
made here and given to the public code by `record.py`.
"""

from pathlib import Path

import numpy as np

from cogjax.families.dalle import imports as dvae
from cogjax.interop.importer import leaves_of
from cogjax.interop.rules import sources_of
from cogjax.models.dvae import DVAEConfig
from tests.importing import files
from tests.published import random_tensors

CASES = Path(__file__).parent / "cases"
DVAE = DVAEConfig(
    image_size=256, grid=32, code_dim=12, width=8, blocks=2, codebook_size=24
)


def seeded(rules, seed=0):
    """Random tensors for all sources of rules."""
    shapes = dict(sorted(sources_of(rules).items()))
    return random_tensors(np.random.default_rng(seed), shapes)


def part(tensors, prefix):
    """Those of a prefix, without it."""
    return {
        k.removeprefix(prefix): x for k, x in tensors.items() if k.startswith(prefix)
    }


def dvae_tensors(config=DVAE):
    """Of both halves, "encoder." and "decoder."."""
    return seeded(list(dvae._rules(leaves_of(config), config)))


def write_dvae(folder, legacy=True, tensors=None):
    """The folder as OpenAI's two files."""
    tensors = tensors or dvae_tensors()
    for half in ("encoder", "decoder"):
        files.module(folder / f"{half}.pkl", part(tensors, f"{half}."), legacy)
    return folder


WRITE = {"openai-dvae": write_dvae}
