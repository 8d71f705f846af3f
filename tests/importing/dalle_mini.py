"""DALL-E mini's files with small networks: Flax's, scanned or not, and min-dalle's."""

import json
from pathlib import Path

import numpy as np
from flax.serialization import msgpack_serialize
from flax.traverse_util import unflatten_dict

from cogjax.data.clip_bpe import byte_characters
from cogjax.families.dalle_mini import names
from cogjax.interop import vqgan
from cogjax.interop.rules import sources_of
from cogjax.models.encoder_decoder_config import EncoderDecoderConfig
from cogjax.models.vqgan import VQGANConfig
from tests.importing import files
from tests.published import random_tensors

CASES = Path(__file__).parent / "cases"
# As many codes an image as min-dalle cannot do without, heads of 64 channels.
CONFIG = EncoderDecoderConfig(
    width=128,
    depth=2,
    heads=2,
    mlp_dim=40,
    text_vocab_size=288,
    text_len=12,
    vocab_size=25,
    image_len=256,
    start=24,
)
VQGAN = VQGANConfig(
    image_size=32,
    width=32,
    multipliers=(1, 2),
    res_blocks=2,
    attention=(16,),
    z_dim=12,
    code_dim=10,
    codebook_size=24,
    black=0,
)
MERGES = ("Ġ a", "c a", "ca t", "Ġ cat", "r e", "re d", "Ġ red", "1 2", "a n", "Ġa n")
SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")
VOCAB = {
    piece: i
    for i, piece in enumerate(
        [*SPECIAL, *byte_characters().values(), *(x.replace(" ", "") for x in MERGES)]
    )
}
WORDS = ("the", "a", "red", "car", "cat", "cats", "is", "art", "of", "day", "2022")
SETTINGS = {
    "d_model": CONFIG.width,
    "encoder_attention_heads": CONFIG.heads,
    "decoder_attention_heads": CONFIG.heads,
    "encoder_layers": CONFIG.depth,
    "decoder_layers": CONFIG.depth,
    "encoder_ffn_dim": CONFIG.mlp_dim,
    "decoder_ffn_dim": CONFIG.mlp_dim,
    "encoder_vocab_size": CONFIG.text_vocab_size,
    "image_vocab_size": CONFIG.vocab_size - 1,
    "max_text_length": CONFIG.text_len,
    "image_length": CONFIG.image_len,
    "decoder_start_token_id": CONFIG.start,
    "ln_positions": "normformer",
    "normalize_text": True,
    "model_type": "dallebart",
}
_FLAX_NAMES = {
    "pre_self_attn_layer_norm": "LayerNorm_0",
    "self_attn_layer_norm": "LayerNorm_1",
    "pre_encoder_attn_layer_norm": "LayerNorm_2",
    "encoder_attn_layer_norm": "LayerNorm_3",
    "self_attn": "FlaxBartAttention_0",
    "encoder_attn": "FlaxBartAttention_1",
    "glu": "GLU_0",
    "ln0": "LayerNorm_0",
    "ln1": "LayerNorm_1",
    "fc0": "Dense_0",
    "fc1": "Dense_1",
    "fc2": "Dense_2",
}


def tensors(config=CONFIG):
    """Both halves by min-dalle's names; ids behind the codes are never the best."""
    needs = sorted(sources_of(list(names.rules_of(config))).items())
    rng = np.random.default_rng(0)
    found = random_tensors(rng, {name: x.shape for name, x in needs})
    found["decoder.lm_head.weight"] *= 4
    found["decoder.lm_head.weight"][VQGAN.codebook_size :] *= 0.01
    return found


def half(name):
    """Tensors of one of min-dalle's files."""
    found = tensors()
    prefix = f"{name}."
    return {k.removeprefix(prefix): x for k, x in found.items() if k.startswith(prefix)}


def flax_tree(scanned=True, named=None):
    """The tree of dalle-mini, {path: array}; named: arrays by min-dalle's names."""
    found = {}
    for name, x in (named or tensors()).items():
        *parents, leaf = name.split(".")
        if leaf == "weight":
            leaf = "scale" if x.ndim == 1 else "kernel"
            leaf = "embedding" if parents[-1].startswith("embed_") else leaf
            x = x.T if leaf == "kernel" else x
        if parents == ["decoder", "lm_head"]:
            found["lm_head", leaf] = x
            continue
        parents = ["model", *(_FLAX_NAMES.get(each, each) for each in parents)]
        if "layers" in parents:
            half = {"encoder": "En", "decoder": "De"}[parents[1]]
            parents[3] = f"FlaxBart{half}coderLayer_{parents[3]}"
        found[*parents, leaf] = x
    return _scanned(found) if scanned else found


def _scanned(tree):
    groups, rest = {}, {}
    for path, x in tree.items():
        if "layers" not in path:
            rest[path] = x
            continue
        name, _, number = path[3].rpartition("_")
        key = *path[:3], f"{name}s", *path[4:]
        groups.setdefault(key, {})[int(number)] = x
    return rest | {
        path: np.stack([found[i] for i in sorted(found)])
        for path, found in groups.items()
    }


def write_msgpack(path, tree):
    """A file of Flax."""
    path.write_bytes(msgpack_serialize(unflatten_dict(tree)))


def vqgan_tensors(config=VQGAN):
    """Tensors of the image tokenizer, by taming's names."""
    needs = sorted(sources_of(list(vqgan.rules_of(config))).items())
    rng = np.random.default_rng(1)
    return random_tensors(rng, {name: x.shape for name, x in needs})


def vqgan_tree():
    """The tree of vqgan-jax, {path: array}."""
    found = {}
    for name, x in vqgan_tensors().items():
        *parents, leaf = name.split(".")
        path: list[str] = []
        for each in parents:
            if each.isdigit():
                path[-1] += f"_{each}"
            else:
                path.append(each)
        if leaf == "weight":
            leaf = "kernel" if x.ndim == 4 else "scale"
            leaf = "embedding" if path[-1] == "embedding" else leaf
            x = x.transpose(2, 3, 1, 0) if leaf == "kernel" else x
        found[*path, leaf] = x
    return found


def write_vqgan_jax(folder):
    """The image tokenizer of dalle-mini, a file of Flax with its config file."""
    write_msgpack(folder / "vqgan.msgpack", vqgan_tree())
    sizes = {
        "ch": VQGAN.width,
        "ch_mult": list(VQGAN.multipliers),
        "num_res_blocks": VQGAN.res_blocks,
        "attn_resolutions": list(VQGAN.attention),
        "resolution": VQGAN.image_size,
        "z_channels": VQGAN.z_dim,
        "embed_dim": VQGAN.code_dim,
        "n_embed": VQGAN.codebook_size,
        "double_z": False,
    }
    (folder / "vqgan.json").write_text(json.dumps(sizes))
    return folder


def detoker_tensors(config=VQGAN):
    """The decoder alone, by min-dalle's names."""
    found = vqgan_tensors(config)
    table = {"embedding.weight": found["quantize.embedding.weight"]}
    kept = ("decoder.", "post_quant_conv.")
    return table | {k: x for k, x in found.items() if k.startswith(kept)}


def write_detoker(folder):
    """min-dalle's decoder of images, and its size, which the release need not say."""
    files.state_dict(folder / "detoker.pt", detoker_tensors())
    sizes = {"ch_mult": list(VQGAN.multipliers), "resolution": VQGAN.image_size}
    (folder / "detoker.json").write_text(json.dumps(sizes))
    return folder


def write_flax(folder, scanned=True, **settings):
    """dalle-mini's two folders in one."""
    write_msgpack(folder / "flax_model.msgpack", flax_tree(scanned))
    (folder / "config.json").write_text(json.dumps(SETTINGS | settings))
    model = {"type": "BPE", "vocab": VOCAB, "merges": list(MERGES)}
    table = {"normalizer": None, "pre_tokenizer": {"type": "ByteLevel"}, "model": model}
    (folder / "tokenizer.json").write_text(json.dumps(table))
    lines = "".join(f"{word} {9 - i}\n" for i, word in enumerate(WORDS))
    (folder / "enwiki-words-frequency.txt").write_text(lines)
    return write_vqgan_jax(folder)


def write_min_dalle(folder):
    """min-dalle's files."""
    for name in ("encoder", "decoder"):
        files.state_dict(folder / f"{name}.pt", half(name))
    (folder / "vocab.json").write_text(json.dumps(VOCAB))
    merges = "\n".join(["#version: 0.2", *MERGES, ""])
    (folder / "merges.txt").write_text(merges)
    return write_detoker(folder)


WRITE = {
    "dalle-mini": write_flax,
    "dalle-mini-torch": write_min_dalle,
    "vqgan-jax": write_vqgan_jax,
    "vqgan-detoker": write_detoker,
}
