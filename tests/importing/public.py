"""The small networks of each family whose outputs public code has given.

`cases/NAME.npz` holds inputs and outputs; the weights are random numbers of a seed,
made here and given to the public code by `record.py`.
"""

import functools
from dataclasses import replace
from pathlib import Path

import numpy as np
import yaml

from cogjax.families.dalle import imports as dvae
from cogjax.families.vqgan import imports as vqgan
from cogjax.interop.importer import leaves_of
from cogjax.interop.rules import sources_of
from cogjax.models.dvae import DVAEConfig
from cogjax.models.vqgan import VQGANConfig
from tests.importing import files
from tests.published import random_tensors

CASES = Path(__file__).parent / "cases"
DVAE = DVAEConfig(
    image_size=256, grid=32, code_dim=12, width=8, blocks=2, codebook_size=24
)
_VQGAN = VQGANConfig(
    image_size=16,
    width=32,
    multipliers=(1, 2),
    res_blocks=1,
    attention=(8,),
    z_dim=12,
    code_dim=10,
    codebook_size=24,
)
VQGANS = {
    "nearest": _VQGAN,
    "gumbel": replace(_VQGAN, res_blocks=2, z_dim=10, form="gumbel"),
}


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


def vqgan_tensors(form):
    """Of a VQGAN, by the release's names."""
    return seeded(list(vqgan._rules(VQGANS[form])))


def write_vqgan(folder, form="nearest", change=(), **settings):
    """A checkpoint of Lightning with its losses, and the config file."""
    config = VQGANS[form]
    tensors = vqgan_tensors(form) | {"loss.discriminator.w": np.ones((2, 3), "f4")}
    files.state_dict(folder / "last.ckpt", tensors | dict(change), ("state_dict",))
    sizes = {
        "double_z": False,
        "z_channels": config.z_dim,
        "resolution": config.image_size,
        "in_channels": 3,
        "out_ch": 3,
        "ch": config.width,
        "ch_mult": list(config.multipliers),
        "num_res_blocks": config.res_blocks,
        "attn_resolutions": list(config.attention),
        "dropout": 0.0,
        **settings,
    }
    params = {"embed_dim": config.code_dim, "n_embed": config.codebook_size}
    params |= {"ddconfig": sizes, "lossconfig": {"target": "taming.losses.Dummy"}}
    model = {"target": "taming.models.vqgan.VQModel", "params": params}
    (folder / "model.yaml").write_text(yaml.safe_dump({"model": model}))
    return folder


WRITE = {
    "openai-dvae": write_dvae,
    "vqgan": write_vqgan,
    "vqgan-gumbel": functools.partial(write_vqgan, form="gumbel"),
}
