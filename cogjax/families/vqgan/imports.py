"""VQGANs under taming-transformers' names: f16 and f8, nearest code or gumbel.

Also under those of vqgan-jax (a file of Flax), and min-dalle's `detoker.pt`, a decoder
alone; both are DALL-E mini's, whose pixels are in [0, 1] inside too.
The sizes are those of the tensors. The size of images is the `resolution` of a config
file beside them, 256 without one; it only says at which sides the levels attend.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import yaml

from cogjax.errors import UserError
from cogjax.interop.importer import (
    Conversion,
    Export,
    Import,
    Importer,
    count,
    leaves_of,
    making,
    shape_of,
)
from cogjax.interop.rules import Rule, copy, layer, layers_of, sources_of
from cogjax.interop.source import Source, Tensors
from cogjax.interop.stored import StoredTensor
from cogjax.models.vqgan import VQGANConfig

_RESOLUTION = 256
_SIDES = "attn_resolutions"
_BLOCK = r"decoder\.up\.0\.block\.(\d+)\.conv1\.weight"
_LEVELS = r"decoder\.up\.(\d+)\.block\.0\.conv1\.weight"
_TABLE, _DETOKER = "quantize.embedding.weight", "embedding.weight"
_FLAX = "decoder.conv_in.kernel"
# Discriminator and LPIPS, and statistics of codes.
_DROPPED = r"loss\..*|quantize\.(cluster_size|embed_avg|codebook_used)"
_LICENCE = "as of the release; taming-transformers' own are MIT"
_PLAIN = {"double_z": False, "in_channels": 3, "out_ch": 3, "resamp_with_conv": True}


def _detect(source: Source) -> bool:
    names = source.names
    forms = (
        {"encoder.conv_in.weight", "quant_conv.weight"},
        {"encoder.conv_in.kernel", _FLAX, "quantize.embedding.embedding"},
        {_DETOKER, "post_quant_conv.weight", "decoder.conv_in.weight"},
    )
    return any(form <= names for form in forms)


def _plan(source: Source) -> Import:
    tensors, changes, note = _tamings(source.tensors)
    settings = _settings(source)
    config = _config(tensors, settings.get("resolution", _RESOLUTION))
    config = replace(config, **changes)
    _check_settings(config, settings)
    conversion = Conversion(config, list(_rules(config)), tensors, _DROPPED)
    notes = [note] if note else []
    if not settings:
        notes.append(
            f"no config file: images are taken to be of {_RESOLUTION} px, as those of "
            "the released models"
        )
    if config.form == "gumbel":
        notes.append("codes are the best ones: the public code adds noise to them")
    return Import("", {"tokenizer": conversion}, _LICENCE, notes=notes)


def _tamings(tensors: Tensors) -> tuple[Tensors, dict[str, Any], str]:
    """(tensors under taming's names, settings that are not taming's, what to say)."""
    if _FLAX in tensors:
        found = dict(_of_flax(name, x) for name, x in tensors.items())
        note = "pixels are in [0, 1] in the network, as dalle-mini uses it"
        return found, {"black": 0}, note
    if _DETOKER in tensors and "quant_conv.weight" not in tensors:
        found = {_TABLE if k == _DETOKER else k: x for k, x in tensors.items()}
        note = (
            "the image tokenizer is a decoder alone, as in min-dalle: images cannot be "
            "given with a prompt"
        )
        # PyTorch's default, where the network was trained with taming's.
        return found, {"black": 0, "epsilon": 1e-5}, note
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


def _config(tensors: Tensors, resolution: Any) -> VQGANConfig:
    """The sizes, which are those of the decoder."""
    width = shape_of(tensors, "decoder.conv_out.weight", 4)[1]
    levels = count(tensors, _LEVELS)
    if not 1 <= levels <= 16:
        raise UserError(f"the decoder has {levels} levels, expected 1 to 16")
    names = [f"decoder.up.{i}.block.0.conv1.weight" for i in range(levels)]
    widths = [shape_of(tensors, name, 4)[0] for name in names]
    attention = [f"decoder.up.{i}.attn.0.q.weight" for i in range(levels)]
    gumbel = "quantize.proj.weight" in tensors
    table = "quantize.embed.weight" if gumbel else _TABLE
    codebook_size, code_dim = shape_of(tensors, table, 2)
    if not isinstance(resolution, int) or not 0 < resolution <= 2**14:
        raise UserError(f"the config's resolution is {resolution!r}, expected a size")
    if not width or any(each % width for each in widths):
        raise UserError(f"widths {widths} are no multiples of the first, {width}")
    with making("VQGAN"):
        return VQGANConfig(
            image_size=resolution,
            width=width,
            multipliers=tuple(each // width for each in widths),
            # The decoder has one more.
            res_blocks=count(tensors, _BLOCK) - 1,
            attention=tuple(
                resolution // 2**i for i in range(levels) if attention[i] in tensors
            ),
            z_dim=shape_of(tensors, "decoder.conv_in.weight", 4)[1],
            code_dim=code_dim,
            codebook_size=codebook_size,
            form="gumbel" if gumbel else "nearest",
            encodes="quant_conv.weight" in tensors,
        )


def _said(config: VQGANConfig) -> dict[str, Any]:
    """What a config file says of a network."""
    return {
        "ch": config.width,
        "ch_mult": list(config.multipliers),
        "num_res_blocks": config.res_blocks,
        _SIDES: list(config.attention),
        "z_channels": config.z_dim,
        "embed_dim": config.code_dim,
        "n_embed": config.codebook_size,
        **_PLAIN,
    }


def _check_settings(config: VQGANConfig, settings: Mapping[str, Any]) -> None:
    """UserError for a config file of other weights, or of what is not here."""
    for key, value in _said(config).items():
        said = settings.get(key, value)
        if key == _SIDES and isinstance(said, list):
            said = sorted(
                (side for side in said if isinstance(side, int)), reverse=True
            )
        if said != value:
            raise UserError(
                f"the config file says {key} {said}, the weights are of {value}: is it "
                "of another model?"
            )


def _rules(config: VQGANConfig) -> Iterator[Rule]:
    wanted = leaves_of(config)
    table = "embed" if config.form == "gumbel" else "embedding"
    yield copy("codebook", f"quantize.{table}.weight", wanted)
    for path in layers_of(wanted):
        name = path.replace("/", ".")
        if f"{path}/scale" in wanted:
            yield copy(f"{path}/scale", f"{name}.weight", wanted)
            yield copy(f"{path}/bias", f"{name}.bias", wanted)
        else:
            yield from layer(wanted, path, f"{name}.weight", f"{name}.bias")


def _export(config: VQGANConfig, text: Any, torch: bool) -> Export | None:
    """None for a network whose sizes are not all in its tensors, such as groups."""
    del text, torch
    rules = list(_rules(config))
    found = _config(sources_of(rules), config.image_size)
    if found != replace(config, attention=found.attention):
        return None
    sizes = _said(found) | {"resolution": config.image_size, "dropout": 0.0}
    params: dict[str, Any] = {key: sizes.pop(key) for key in ("embed_dim", "n_embed")}
    params["ddconfig"] = sizes
    name = "GumbelVQ" if config.form == "gumbel" else "VQModel"
    target = f"taming.models.vqgan.{name}"
    model = {"target": target, "params": params}
    return Export(
        f"CompVis/taming-transformers, {target}",
        rules,
        {"": "vqgan.safetensors"},
        {"model.yaml": yaml.safe_dump({"model": model})},
    )


VQGAN = Importer(
    "VQGAN of taming-transformers", _detect, _plan, exports={"vqgan": _export}
)
