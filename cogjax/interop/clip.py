"""CLIP under OpenAI's names and under those of Hugging Face."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from cogjax.interop.rules import Rule, Shapes, copy, joined, layer, of_one, stacked
from cogjax.models.clip import ClipConfig

# Numbers that TorchScript keeps beside the tensors, the causal mask, and positions.
DROPPED = r"input_resolution|context_length|vocab_size|.*\.attn_mask|.*\.position_ids"
_HF = {"text": "text_model.", "visual": "vision_model."}
_HF_NAMES = {
    "class_embedding": "embeddings.class_embedding",
    "conv1.weight": "embeddings.patch_embedding.weight",
    "token_embedding.weight": "embeddings.token_embedding.weight",
    "positional_embedding": "embeddings.position_embedding.weight",
    "ln_pre": "pre_layrnorm",
    "ln_post": "post_layernorm",
    "ln_final": "final_layer_norm",
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "out_proj": "self_attn.out_proj",
    "c_fc": "mlp.fc1",
    "c_proj": "mlp.fc2",
}


def is_hugging_face(tensors: Mapping[str, Any]) -> bool:
    """Whether the names are those of Hugging Face."""
    return any(name.startswith(_HF["visual"]) for name in tensors)


def rules_of(
    config: ClipConfig, wanted: Shapes, tensors: Mapping[str, Any]
) -> list[Rule]:
    """The rules for the names that the tensors have."""
    make = _hugging_face if is_hugging_face(tensors) else _openai
    depths = {"visual": config.depth, "text": config.text_depth}
    return [rule for path in wanted for rule in make(wanted, path, depths)]


def _openai(wanted: Shapes, path: str, depths: Mapping[str, int]) -> list[Rule]:
    tower, _, rest = path.partition("/")
    prefix = "visual." if tower == "visual" else ""
    if rest.startswith("blocks/"):
        name = prefix + "transformer.resblocks.{}." + _name(rest)
        return [stacked(wanted, path, name, depths[tower])]
    if path == "visual/conv1/kernel":
        return layer(wanted, "visual/conv1", "visual.conv1.weight", "")
    return [copy(path, prefix + _name(rest or path), wanted)]


def _name(path: str) -> str:
    """ "blocks/layers/in_proj/kernel" -> "attn.in_proj_weight", and the others."""
    path = path.removeprefix("blocks/layers/")
    parent, leaf = _split(path)
    if not parent:
        return leaf
    if parent == "in_proj":
        return f"attn.in_proj_{leaf}"
    parents = {"out_proj": "attn.", "c_fc": "mlp.", "c_proj": "mlp."}
    return f"{parents.get(parent, '')}{parent}.{leaf}"


def _split(path: str) -> tuple[str, str]:
    """ "ln_1/scale" -> ("ln_1", "weight")."""
    parent, _, leaf = path.rpartition("/")
    is_weight = parent and leaf in ("kernel", "scale", "embedding")
    return parent, "weight" if is_weight else leaf


def _hugging_face(wanted: Shapes, path: str, depths: Mapping[str, int]) -> list[Rule]:
    tower, _, rest = path.partition("/")
    if path == "logit_scale":
        return [copy(path, path, wanted)]
    if path in ("visual/proj", "text/text_projection"):
        inputs, outputs = wanted[path].shape
        source = "visual" if tower == "visual" else "text"
        shape = outputs, inputs
        return [of_one(path, f"{source}_projection.weight", shape, np.transpose)]
    if path == "visual/conv1/kernel":
        source = _HF[tower] + _HF_NAMES["conv1.weight"]
        return layer(wanted, "visual/conv1", source, "")
    if not rest.startswith("blocks/"):
        parent, leaf = _split(rest)
        name = f"{parent}.{leaf}" if parent else leaf
        name = _HF_NAMES.get(name) or f"{_HF_NAMES[parent]}.{leaf}"
        return [copy(path, _HF[tower] + name, wanted)]
    parent, leaf = _split(rest.removeprefix("blocks/layers/"))
    prefix = _HF[tower] + "encoder.layers.{}."
    if parent == "in_proj":
        names = [f"{prefix}self_attn.{each}_proj.{leaf}" for each in "qkv"]
        return [joined(wanted, path, names, depths[tower])]
    return [stacked(wanted, path, f"{prefix}{_HF_NAMES[parent]}.{leaf}", depths[tower])]
