"""Small T5s as Hugging Face writes them, and random tensors for any rules."""

import json
from dataclasses import replace

import numpy as np

from cogjax.data.text import TextTokenizer
from cogjax.interop import t5, t5_rules
from cogjax.interop.importer import leaves_of
from cogjax.interop.rules import sources_of
from cogjax.models.t5 import T5Config
from tests.importing import files
from tests.published import random_tensors

# Heads that do not fill the width, and buckets of every kind.
T5 = T5Config(
    width=24, depth=2, heads=3, head_dim=10, mlp_dim=40, vocab_size=420, max_distance=20
)
T5S = {"t5": T5, "t5-v1": replace(T5, gated=False)}


def seeded(rules, seed=0):
    """Random tensors for all sources of rules."""
    needs = sorted(sources_of(rules).items())
    shapes = {name: each.shape for name, each in needs}
    return random_tensors(np.random.default_rng(seed), shapes)


def t5_tensors(name):
    """Tensors of an encoder, by Hugging Face's names."""
    config = T5S[name]
    return seeded(t5_rules.rules_of(config, leaves_of(config), {})[0])


def words():
    """Pieces of a few words."""
    return TextTokenizer.train(["a red cat", "two blue dogs"] * 9, 280)


def write_t5(folder, name="t5"):
    """A folder with the table twice, a decoder, and two shards with their index."""
    config, tensors = T5S[name], t5_tensors(name)
    tensors["shared.weight"] = tensors["encoder.embed_tokens.weight"]
    tensors |= {
        "decoder.x.weight": np.ones(3, "f4"),
        "lm_head.weight": np.ones(2, "f4"),
    }
    names, parts = list(tensors), {}
    for i in range(2):
        parts |= dict.fromkeys(names[i::2], f"pytorch_model-{i}.bin")
        part = {key: tensors[key] for key in names[i::2]}
        files.state_dict(folder / f"pytorch_model-{i}.bin", part)
    index = json.dumps({"weight_map": parts})
    (folder / "pytorch_model.bin.index.json").write_text(index)
    stored = {theirs: getattr(config, ours) for ours, theirs in t5._SIZES.items()}
    form = "gated-gelu" if config.gated else "relu"
    stored |= {"model_type": "t5", "feed_forward_proj": form}
    stored |= {"relative_attention_max_distance": config.max_distance}
    (folder / "config.json").write_text(json.dumps(stored))
    words().save(folder / "spiece.model")
    return folder
