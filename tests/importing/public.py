"""The small networks of each family whose outputs public code has given.

`cases/NAME.npz` holds inputs and outputs; the weights are random numbers of a seed,
made here and given to the public code by `record.py`.
"""

import functools
import gzip
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import yaml

from cogjax.data.text import TextTokenizer
from cogjax.data.vocab import Vocab
from cogjax.families.cogview import imports as cogview
from cogjax.families.dalle import imports as dvae
from cogjax.importing import import_model
from cogjax.interop import clip, vqgan
from cogjax.interop.importer import leaves_of
from cogjax.interop.safetensors import save_tree
from cogjax.models.clip import ClipConfig
from cogjax.models.dvae import DVAEConfig
from cogjax.models.image_lm_config import ImageLMConfig
from cogjax.models.vqgan import VQGANConfig
from cogjax.models.vqvae import VQVAEConfig
from cogjax.ops.sequence import Sequence
from tests.importing import dalle_mini, decoders, files
from tests.importing.texts import seeded, write_t5

# The component that is compared, in models with several.
COMPONENTS = {
    **dict.fromkeys(("cogview", "dalle-mini", "dalle-mini-torch"), "transformer"),
    **decoders.COMPONENTS,
}
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
CLIP = ClipConfig(
    image_size=24,
    patch=8,
    width=128,
    depth=2,
    embed_dim=24,
    text_width=64,
    text_depth=3,
    vocab_size=2 + 512 + 3,
    text_len=9,
)
MERGES = "#version: 0.2\nc a\nca t</w>\nt h\n"
# A name of each layout, by which its rules are chosen.
_LAYOUTS = {"clip": (), "clip-hf": ("vision_model.",)}
VQVAE = VQVAEConfig(widths=(8, 8, 8), code_dim=6, codebook_size=24)
COGVIEW = ImageLMConfig(
    width=128,
    depth=2,
    heads=2,
    mlp_dim=512,
    vocab_size=Vocab(24, 280).padded_size,
    max_positions=1024 + 4 + 8,
    sequence=Sequence.causal(1024 + 4 + 8),
    norm_scope="tensor",
)


def part(tensors, prefix):
    """Those of a prefix, without it."""
    return {
        k.removeprefix(prefix): x for k, x in tensors.items() if k.startswith(prefix)
    }


def dvae_tensors(config=DVAE):
    """Tensors of both halves, "encoder." and "decoder."."""
    return seeded(list(dvae._rules(leaves_of(config), config)))


def write_dvae(folder, legacy=True, tensors=None):
    """The folder as OpenAI's two files."""
    tensors = tensors or dvae_tensors()
    for half in ("encoder", "decoder"):
        files.module(folder / f"{half}.pkl", part(tensors, f"{half}."), legacy)
    return folder


def clip_tensors(name):
    """Tensors of a CLIP, by the names of one layout."""
    return seeded(clip.rules_of(CLIP, leaves_of(CLIP), _LAYOUTS[name]))


def write_clip(folder, name="clip", tensors=None):
    """The weights, and the file of merges."""
    tensors = tensors or clip_tensors(name)
    if name == "clip":
        extra = {"input_resolution": np.array(24), "context_length": np.array(9)}
        files.state_dict(folder / "x.pt", tensors | extra)
        (folder / "merges.txt.gz").write_bytes(gzip.compress(MERGES.encode()))
        return folder
    extra = {"text_model.embeddings.position_ids": np.arange(9)[None]}
    save_tree(folder / "model.safetensors", tensors | extra, None)
    (folder / "merges.txt").write_text(MERGES)
    config = {"hidden_act": "quick_gelu", "num_attention_heads": 2}
    text = config | {"num_attention_heads": 1}
    (folder / "config.json").write_text(
        json.dumps({"model_type": "clip", "vision_config": config, "text_config": text})
    )
    return folder


def vqvae_tensors():
    """Tensors of CogView's VQ-VAE."""
    return seeded(list(cogview._vqvae_rules(VQVAE)))


def write_vqvae(folder):
    """The legacy file, with the prefix of the release and the averages of training."""
    tensors = {f"module.{key}": x for key, x in vqvae_tensors().items()}
    tensors["module.quantize_t.cluster_size"] = np.ones(24, "f4")
    tensors["module.quantize_t.embed_avg"] = np.ones((6, 24), "f4")
    files.state_dict(folder / "vqvae.pt", tensors, legacy=True)
    return folder


def cogview_tensors():
    """Tensors of the transformer; a token is an outlier, as in trained ones."""
    tensors = seeded(list(cogview._transformer_rules(COGVIEW)))
    tensors["word_embeddings.weight"][3, 7] = 12
    return tensors


def write_cogview(folder):
    """VQ-VAE, text and, in a folder of its own, the transformer."""
    write_vqvae(folder)
    (folder / "latest_checkpointed_iteration.txt").write_text("1000")
    (folder / "1000").mkdir()
    path = folder / "1000" / "mp_rank_00_model_states.pt"
    files.state_dict(path, cogview_tensors(), ("module",))
    words = TextTokenizer.train(["a red cat", "two blue dogs"] * 9, 280)
    words.save(folder / "cog-pretrain.model")
    return folder


def vqgan_tensors(form):
    """Tensors of a VQGAN, by the release's names."""
    return seeded(list(vqgan.rules_of(VQGANS[form])))


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
    "cogview": write_cogview,
    "cogview-vqvae": write_vqvae,
    "t5": write_t5,
    "t5-v1": functools.partial(write_t5, name="t5-v1"),
    "clip": write_clip,
    "clip-hf": functools.partial(write_clip, name="clip-hf"),
    "vqgan": write_vqgan,
    "vqgan-gumbel": functools.partial(write_vqgan, form="gumbel"),
    **dalle_mini.WRITE,
    "llamagen-vq": decoders.write_vq,
    "llamagen-c2i": decoders.write_c2i,
    "llamagen-t2i": decoders.write_t2i,
    "mindalle": decoders.write_mindalle,
    "rudalle-v2": functools.partial(decoders.write_rudalle, version="v2"),
    "rudalle-v3": functools.partial(decoders.write_rudalle, version="v3"),
}


def imported(tmp_path_factory):
    """Function of the name of a public case -> its model folder, imported once."""
    done = {}

    def make(name):
        if name not in done:
            folder = WRITE[name](tmp_path_factory.mktemp("source"))
            done[name] = tmp_path_factory.mktemp("model") / name
            import_model([folder], done[name])
        return done[name]

    return make
