"""Small networks of families that draw code after code; see `public.py`."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import yaml

from cogjax.families.llamagen import imports as llamagen
from cogjax.families.llamagen import vq
from cogjax.families.mindalle import imports as mindalle
from cogjax.families.rudalle import imports as rudalle
from cogjax.families.rudalle import presets
from cogjax.interop import vqgan
from cogjax.models.image_lm_config import ImageLMConfig
from cogjax.models.vqgan import VQGANConfig
from cogjax.ops.masks import image_mask
from cogjax.ops.sequence import Sequence
from tests.importing import files
from tests.importing.texts import T5S, seeded, write_t5

SHAPES = Path(__file__).parent / "shapes"
_LAYER = re.compile(r"((?:^|\.)(?:layers|blocks)\.)(\d+)(?=\.)")
COMPONENTS = dict.fromkeys(
    ("llamagen-c2i", "llamagen-t2i", "mindalle", "rudalle-v2", "rudalle-v3"),
    "transformer",
)
VQ = VQGANConfig(
    image_size=20,
    width=32,
    multipliers=(1, 2, 1),
    res_blocks=2,
    attention=(5,),
    z_dim=256,
    code_dim=8,
    codebook_size=24,
    form="cosine",
)
C2I = ImageLMConfig(
    width=128,
    depth=2,
    heads=2,
    mlp_dim=512,
    vocab_size=24 + 10 + 1,
    max_positions=1 + 25,
    grid=5,
    sequence=Sequence.text_to_image(1, (5, 5)),
    alpha=1.0,
    sandwich=False,
    norm="rms",
    mlp="swiglu",
    use_bias=False,
    rotary=10000.0,
    outputs=24,
)
T2I = replace(
    C2I,
    vocab_size=24,
    max_positions=7 + 25,
    sequence=Sequence.text_to_image(7, (5, 5)),
    caption_dim=T5S["t5"].width,
)
STAGE1 = VQGANConfig(
    image_size=16,
    width=32,
    multipliers=(1, 2, 1),
    res_blocks=1,
    attention=(4,),
    z_dim=12,
    code_dim=10,
    codebook_size=24,
)
# Rows of the text behind the codes, of which more than the tokenizer has pieces.
STAGE2 = ImageLMConfig(
    width=128,
    depth=2,
    heads=4,
    mlp_dim=512,
    vocab_size=24 + 60,
    max_positions=6 + 16,
    sequence=Sequence.text_to_image(6, (4, 4)),
    alpha=1.0,
    norm_scope="none",
    sandwich=False,
    mlp="exact_gelu",
    outputs=24 + 60,
)
VAE = replace(STAGE1, image_size=24, multipliers=(1, 2), attention=(12,), form="gumbel")
VAE = replace(VAE, z_dim=10)
# Layers of each kind; 6 places of text, whose table has one more.
RUDALLE = ImageLMConfig(
    width=128,
    depth=5,
    heads=2,
    mlp_dim=512,
    vocab_size=24 + 40,
    max_positions=7 + 144,
    grid=12,
    sequence=Sequence.text_to_image(6, (12, 12)),
    kinds=presets.kinds(5, "clip"),
    norm_scope="none",
    outputs=24 + 40,
    normed_head=True,
)
# 10 characters, 4 rules; [unknown, padding, start, end] last.
CHARACTERS = {"\u2581": 4} | {c: 5 + i for i, c in enumerate("котиреый")}
RULES = [(5, 6, 13), (4, 13, 14), (14, 7, 15), (13, 7, 16)]
RUSSIAN = ["Кот", "рекот  кооот ж☃ж", "кот " * 6]
# As its wrapper gives them: start, pieces, end, zeros, cut.
RUSSIAN_IDS = [[2, 15, 3, 0, 0, 0], [2, 4, 9, 10, 16, 14], [2, *[15] * 5]]
_LETTERS = "abcdegloruwt,é"
MERGES = [("a", "t</w>"), ("r", "e"), ("re", "d</w>"), ("d", "o"), ("c", "at</w>")]
PIECES = ["[UNK]", *_LETTERS, *(f"{c}</w>" for c in _LETTERS)]
PIECES += ["".join(merge) for merge in MERGES]
WORDS = ["A red cat", "Two blue dogs, two blue dogs", "ÉTÉ 猫 x"]
# The second is longer than what is read.
TEXTS = ["a red cat", "two blue dogs, two blue dogs"]
CLASSES = ["tench, Tinca tinca", "crane", "goldfish", *"abcdefg"]


def folded(shapes):
    """Shapes by name, of a stack of layers the first and how many there are."""
    found, depth = {}, 0
    for name, shape in shapes.items():
        match = _LAYER.search(name)
        depth = max(depth, int(match[2]) + 1) if match else depth
        if not match or match[2] == "0":
            found[name] = shape
    return {"depth": depth, "shapes": found}


def unfolded(stored):
    """All names of `folded`: (name, shape)."""
    for name, shape in stored["shapes"].items():
        layers = range(stored["depth"]) if _LAYER.search(name) else (0,)
        for i in layers:
            yield _LAYER.sub(rf"\g<1>{i}", name), tuple(shape)


def vq_tensors():
    """LlamaGen's VQ; codes are not of length 1, as those of files need not be."""
    return seeded(list(vq.rules_of(VQ)))


def gpt_tensors(config):
    """Tensors of LlamaGen's GPT."""
    tensors = seeded(list(llamagen._rules(config)))
    # Larger, so that the most likely codes are told apart.
    tensors["output.weight"] *= 4
    return tensors


def write_vq(folder):
    """A checkpoint of its training, and the size of images beside it."""
    used = {"quantize.codebook_used": np.zeros(65536, "f4")}
    tensors = {f"model.{k}": x for k, x in (vq_tensors() | used).items()}
    tensors |= {"discriminator.main.0.weight": np.ones((2, 3), "f4")}
    files.state_dict(folder / "vq.pt", tensors)
    (folder / "args.json").write_text(json.dumps({"image_size": VQ.image_size}))
    return folder


def write_c2i(folder):
    """With the names of classes."""
    write_vq(folder)
    files.state_dict(folder / "c2i.pt", gpt_tensors(C2I), ("model",))
    table = {str(i): [f"n{i:08}", name] for i, name in enumerate(CLASSES)}
    (folder / "imagenet_class_index.json").write_text(json.dumps(table))
    return folder


def write_t2i(folder):
    """With the T5, of two shards."""
    write_vq(folder)
    extra = {"freqs_cis": np.ones((32, 32, 2), "f4")}
    files.state_dict(folder / "t2i.pt", gpt_tensors(T2I) | extra, ("module",))
    return write_t5(folder)


def stage2_tensors():
    """Tensors of minDALL-E's GPT."""
    return seeded(list(mindalle._rules(STAGE2, 24)))


def write_charbpe(folder):
    """As the `tokenizers` package writes it."""
    table = {piece: i for i, piece in enumerate(PIECES)}
    (folder / "bpe-16k-vocab.json").write_text(json.dumps(table))
    lines = ["#version: 0.2 - Trained", *(" ".join(merge) for merge in MERGES), ""]
    (folder / "bpe-16k-merges.txt").write_text("\n".join(lines))
    return folder


def write_mindalle(folder):
    """Two checkpoints, and a config file that says what differs from the defaults."""
    stage1 = seeded(list(vqgan.rules_of(STAGE1)))
    files.state_dict(folder / "stage1_last.ckpt", stage1, ("state_dict",))
    files.state_dict(folder / "stage2_last.ckpt", stage2_tensors(), ("state_dict",))
    sizes = {"resolution": 16, "ch": 32, "ch_mult": [1, 2, 1], "num_res_blocks": 1}
    sizes |= {"attn_resolutions": [4], "z_channels": 12}
    stages = {
        "stage1": {"embed_dim": 10, "n_embed": 24, "hparams": sizes},
        "stage2": {"hparams": {"n_heads": 4, "embed_dim": 128}},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(stages))
    return write_charbpe(folder)


def rudalle_tensors():
    """Tensors of ru-dalle's transformer."""
    return seeded(list(rudalle._rules(RUDALLE, 24)))


def write_yttm(folder):
    """A model of YouTokenToMe."""
    lines = [f"{len(CHARACTERS)} {len(RULES)}"]
    lines += [f"{ord(c)} {i}" for c, i in CHARACTERS.items()]
    lines += [" ".join(map(str, rule)) for rule in RULES]
    (folder / "bpe.model").write_text("\n".join([*lines, "1 0 2 3", ""]))
    return folder


def write_rudalle(folder, version):
    """Its masks tell v3; v2 is said by a file."""
    vae = seeded(list(vqgan.rules_of(VAE))) | {"loss.logvar": np.ones(1, "f4")}
    files.state_dict(folder / "vqgan.ckpt", vae, ("state_dict",))
    tensors, sizes = rudalle_tensors(), {"resolution": VAE.image_size}
    if version == "v2":
        sizes["hf_version"] = "v2"
    else:
        mask = np.tri(6 + 144, dtype="f4")
        mask[6:, 6:] = image_mask(presets.convolution("clip"), (12, 12))
        tensors[rudalle._CONV] = mask
    files.state_dict(folder / "pytorch_model.bin", tensors)
    (folder / "args.json").write_text(json.dumps(sizes))
    return write_yttm(folder)
