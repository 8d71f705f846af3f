"""VQGANs under taming-transformers' names: f16 and f8, nearest code or gumbel."""

from collections.abc import Iterator, Mapping
from typing import Any

from cogjax.errors import UserError
from cogjax.interop.importer import count, leaves_of, making, shape_of
from cogjax.interop.rules import Rule, copy, layer, layers_of
from cogjax.interop.source import Tensors
from cogjax.models.vqgan import VQGANConfig

RESOLUTION = 256
# Discriminator and LPIPS, and statistics of codes.
DROPPED = r"loss\..*|quantize\.(cluster_size|embed_avg|codebook_used)"
_SIDES = "attn_resolutions"
_BLOCK = r"encoder\.down\.{}\.block\.(\d+)\.conv1\.weight"
_LEVELS = r"encoder\.down\.(\d+)\.block\.0\.conv1\.weight"
_PLAIN = {"double_z": False, "in_channels": 3, "out_ch": 3, "resamp_with_conv": True}


def is_tokenizer(tensors: Tensors) -> bool:
    """Whether tensors have these names."""
    return {
        "encoder.down.0.block.0.conv1.weight",
        "quant_conv.weight",
    } <= tensors.keys()


def config_of(tensors: Tensors, resolution: Any) -> VQGANConfig:
    """The sizes of tensors; UserError for what is no VQGAN of `resolution` pixels."""
    width = shape_of(tensors, "encoder.conv_in.weight", 4)[0]
    levels = count(tensors, _LEVELS)
    if not 1 <= levels <= 16:
        raise UserError(f"the encoder has {levels} levels, expected 1 to 16")
    names = [f"encoder.down.{i}.block.0.conv1.weight" for i in range(levels)]
    widths = [shape_of(tensors, name, 4)[0] for name in names]
    attention = [f"encoder.down.{i}.attn.0.q.weight" for i in range(levels)]
    gumbel = "quantize.proj.weight" in tensors
    table = "quantize.embed.weight" if gumbel else "quantize.embedding.weight"
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
            res_blocks=count(tensors, _BLOCK.format(0)),
            attention=tuple(
                resolution // 2**i for i in range(levels) if attention[i] in tensors
            ),
            z_dim=shape_of(tensors, "encoder.conv_out.weight", 4)[0],
            code_dim=code_dim,
            codebook_size=codebook_size,
            form="gumbel" if gumbel else "nearest",
        )


def check_settings(config: VQGANConfig, settings: Mapping[str, Any]) -> None:
    """UserError for a config file of other weights, or of what is not here."""
    found = {
        "ch": config.width,
        "ch_mult": list(config.multipliers),
        "num_res_blocks": config.res_blocks,
        _SIDES: list(config.attention),
        "z_channels": config.z_dim,
        "embed_dim": config.code_dim,
        "n_embed": config.codebook_size,
        **_PLAIN,
    }
    for key, value in found.items():
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


def rules_of(config: VQGANConfig) -> Iterator[Rule]:
    """The rules of its leaves."""
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
