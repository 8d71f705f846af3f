"""VQGANs under taming-transformers' names: f16 and f8, nearest code or gumbel.

Also under those of vqgan-jax (a file of Flax), and min-dalle's `detoker.pt`, a decoder
alone; both are DALL-E mini's, whose pixels are in [0, 1] inside too.
The sizes are those of the tensors. The size of images is the `resolution` of a config
file beside them, 256 without one; it only says at which sides the levels attend.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import yaml

from cogjax.config import check_ranges, section
from cogjax.interop import vqgan
from cogjax.interop.importer import Conversion, Export, Import, Importer
from cogjax.interop.rules import of_one, sources_of
from cogjax.interop.source import Source, Tensors
from cogjax.interop.stored import StoredTensor
from cogjax.models.vqgan import VQGANConfig

_DETOKER = "embedding.weight"
_FLAX = "decoder.conv_in.kernel"
_LICENCE = "as of the release; taming-transformers' own are MIT"
_SECTION = "cogjax_vqgan"
# DALL-E mini has pixels in [0, 1] inside. min-dalle has PyTorch's default of norms too,
# where the network was trained with taming's.
_JAX, _MIN_DALLE = {"black": 0}, {"black": 0, "epsilon": 1e-5}


@dataclass(frozen=True)
class _Own:
    """A section of an exported YAML file: what taming's has no place for."""

    black: Literal[-1, 0] = -1
    epsilon: float = 1e-6

    def __post_init__(self):
        check_ranges(self, epsilon=(1e-12, 1))


def _detect(source: Source) -> bool:
    return all(map(_is_tokenizer, source.weights.values()))


def _is_tokenizer(tensors: Tensors) -> bool:
    """Whether tensors are a VQGAN's under any of the names."""
    others = (
        {"encoder.conv_in.kernel", _FLAX, "quantize.embedding.embedding"},
        {_DETOKER, "post_quant_conv.weight", "decoder.conv_in.weight"},
    )
    is_other = any(form <= tensors.keys() for form in others)
    return is_other or vqgan.is_tokenizer(tensors)


def _plan(source: Source) -> Import:
    tensors, changes, note = _tamings(source.tensors)
    settings = _settings(source)
    config = vqgan.config_of(tensors, settings.get("resolution", vqgan.RESOLUTION))
    own = asdict(section(_Own, source.config(_SECTION).get(_SECTION, {}), _SECTION))
    config = replace(config, **own | changes)
    vqgan.check_settings(config, settings)
    rules = list(vqgan.rules_of(config))
    conversion = Conversion(config, rules, tensors, vqgan.DROPPED)
    notes = [note] if note else []
    if not settings:
        notes.append(
            f"no config file: images are taken to be of {vqgan.RESOLUTION} px, as "
            "those of the released models"
        )
    if config.form == "gumbel":
        notes.append("codes are the best ones: the public code adds noise to them")
    return Import("", {"tokenizer": conversion}, _LICENCE, notes=notes)


def _tamings(tensors: Tensors) -> tuple[Tensors, dict[str, Any], str]:
    """(tensors under taming's names, settings that are not taming's, what to say)."""
    if _FLAX in tensors:
        found = dict(_of_flax(name, x) for name, x in tensors.items())
        note = "pixels are in [0, 1] in the network, as dalle-mini uses it"
        return found, _JAX, note
    if _DETOKER in tensors and "quant_conv.weight" not in tensors:
        found = {vqgan.TABLE if k == _DETOKER else k: x for k, x in tensors.items()}
        note = (
            "the image tokenizer is a decoder alone, as in min-dalle: images cannot be "
            "given with a prompt"
        )
        return found, _MIN_DALLE, note
    return tensors, {}, ""


def _of_flax(name: str, tensor: StoredTensor) -> tuple[str, StoredTensor]:
    """encoder.down_0.block_1.conv1.kernel -> encoder.down.0.block.1.conv1.weight."""
    parent, _, leaf = name.rpartition(".")
    parent = re.sub(r"\b(down|up|block|attn)_(\d+)\b", r"\1.\2", parent)
    # Those of the middle have their number in the name.
    parent = re.sub(r"\bmid\.(block|attn)\.", r"mid.\1_", parent)
    if leaf == "kernel" and len(tensor.shape) == 4:
        tensor = tensor.transposed(3, 2, 0, 1)
    weight = leaf in ("kernel", "scale", "embedding")
    return f"{parent}.{'weight' if weight else leaf}", tensor


def _settings(source: Source) -> dict[str, Any]:
    """`ddconfig`, `n_embed` and `embed_dim` of a YAML file, or those of a JSON file.

    {} without one.
    """
    model = source.config("model").get("model")
    params = model.get("params") if isinstance(model, Mapping) else None
    sizes = params.get("ddconfig") if isinstance(params, Mapping) else None
    if not isinstance(sizes, Mapping):
        return source.config("ch_mult")
    return {**sizes, **{key: params.get(key) for key in ("n_embed", "embed_dim")}}


def _export(config: VQGANConfig, model: Any, torch: bool) -> Export | None:
    """None for a network whose sizes are not all in its tensors, such as groups."""
    del model, torch
    rules = list(vqgan.rules_of(config))
    own = _Own(config.black, config.epsilon)
    found = replace(
        vqgan.config_of(sources_of(rules), config.image_size), **asdict(own)
    )
    if found != replace(config, attention=found.attention):
        return None
    if not config.encodes:
        return _detoker(config) if asdict(own) == _MIN_DALLE else None
    sizes = vqgan.said(found) | {"resolution": config.image_size, "dropout": 0.0}
    params: dict[str, Any] = {key: sizes.pop(key) for key in ("embed_dim", "n_embed")}
    params["ddconfig"] = sizes
    name = "GumbelVQ" if config.form == "gumbel" else "VQModel"
    target = f"taming.models.vqgan.{name}"
    stored = {"model": {"target": target, "params": params}}
    if own != _Own():
        stored[_SECTION] = asdict(own)
    return Export(
        f"CompVis/taming-transformers, {target}",
        rules,
        {"": "vqgan.safetensors"},
        {"model.yaml": yaml.safe_dump(stored)},
        notes=_differences(own),
    )


def _differences(own: _Own) -> list[str]:
    """What taming's code does otherwise."""
    notes = []
    if own.black == 0:
        notes.append(
            "the image tokenizer has pixels in [0, 1] inside, where scripts of "
            "taming-transformers have them in [-1, 1]: give the network [0, 1]"
        )
    if own.epsilon != _Own.epsilon:
        notes.append(
            f"the image tokenizer's norms have epsilon {own.epsilon}, those of "
            f"taming-transformers {_Own.epsilon}: its images differ"
        )
    return notes


def _detoker(config: VQGANConfig) -> Export:
    """A decoder alone, whose sizes the public code is given."""
    table, *rules = vqgan.rules_of(config)
    rules.insert(0, of_one(table.leaf, _DETOKER, table.sources[vqgan.TABLE]))
    sizes = {"ch_mult": list(config.multipliers), "resolution": config.image_size}
    return Export(
        "kuprel/min-dalle, VQGanDetokenizer",
        rules,
        {"": "detoker.safetensors"},
        {"detoker.json": json.dumps(sizes)},
    )


VQGAN = Importer(
    "VQGAN of taming-transformers", _detect, _plan, exports={"vqgan": _export}
)
