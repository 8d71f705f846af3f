"""VQGANs under taming-transformers' names: f16 and f8, nearest code or gumbel."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from cogjax.errors import UserError, shown
from cogjax.interop.importer import count, leaves_of, making, shape_of
from cogjax.interop.rules import Rule, Shapes, copy, layer, layers_of
from cogjax.interop.source import Tensors
from cogjax.models.vqgan import VQGANConfig

RESOLUTION = 256
TABLE = "quantize.embedding.weight"
# Discriminator and LPIPS, and statistics of codes.
DROPPED = r"loss\..*|quantize\.(cluster_size|embed_avg|codebook_used)"
_SIDES = "attn_resolutions"
_BLOCK = r"decoder\.up\.0\.block\.(\d+)\.conv1\.weight"
_LEVELS = r"decoder\.up\.(\d+)\.block\.0\.conv1\.weight"
_PLAIN = {"double_z": False, "in_channels": 3, "out_ch": 3, "resamp_with_conv": True}


def is_tokenizer(tensors: Tensors) -> bool:
    """Whether tensors have these names."""
    return {
        "encoder.down.0.block.0.conv1.weight",
        "quant_conv.weight",
    } <= tensors.keys()


def config_of(tensors: Tensors, resolution: Any) -> VQGANConfig:
    """The sizes, which are those of the decoder.

    UserError for what is no VQGAN of `resolution` pixels.
    """
    width = shape_of(tensors, "decoder.conv_out.weight", 4)[1]
    levels = count(tensors, _LEVELS)
    if not 1 <= levels <= 16:
        raise UserError(f"the decoder has {levels} levels, expected 1 to 16")
    names = [f"decoder.up.{i}.block.0.conv1.weight" for i in range(levels)]
    widths = [shape_of(tensors, name, 4)[0] for name in names]
    attention = [f"decoder.up.{i}.attn.0.q.weight" for i in range(levels)]
    gumbel = "quantize.proj.weight" in tensors
    table = "quantize.embed.weight" if gumbel else TABLE
    codebook_size, code_dim = shape_of(tensors, table, 2)
    if not isinstance(resolution, int) or not 0 < resolution <= 2**14:
        raise UserError(
            f"the config's resolution is {shown(resolution)}, expected a size"
        )
    multipliers = multiples(width, widths)
    with making("VQGAN"):
        return VQGANConfig(
            image_size=resolution,
            width=width,
            multipliers=multipliers,
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


def multiples(width: int, widths: Sequence[int]) -> tuple[int, ...]:
    """Widths of levels in units of the first; UserError if they are no multiples."""
    if not width or any(each % width for each in widths):
        raise UserError(f"widths {widths} are no multiples of the first, {width}")
    return tuple(each // width for each in widths)


def said(config: VQGANConfig) -> dict[str, Any]:
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


def check_settings(config: VQGANConfig, settings: Mapping[str, Any]) -> None:
    """UserError for a config file of other weights, or of what is not here."""
    for key, value in said(config).items():
        found = settings.get(key, value)
        if key == _SIDES and isinstance(found, list):
            found = sorted(
                (side for side in found if isinstance(side, int)), reverse=True
            )
        if found != value:
            raise UserError(
                f"the config file says {key} {shown(found)}, the weights are of "
                f"{value}: is it of another model?"
            )


def rules_of(config: VQGANConfig) -> Iterator[Rule]:
    """The rules of its leaves."""
    wanted = leaves_of(config)
    yield copy(
        "codebook",
        "quantize.embed.weight" if config.form == "gumbel" else TABLE,
        wanted,
    )
    yield from layers(wanted, lambda path: path.replace("/", "."))


def layers(wanted: Shapes, name_of: Callable[[str], str]) -> Iterator[Rule]:
    """The rules of all norms and kernels; name_of: of a module by its path."""
    for path in layers_of(wanted):
        name = name_of(path)
        if f"{path}/scale" in wanted:
            yield copy(f"{path}/scale", f"{name}.weight", wanted)
            yield copy(f"{path}/bias", f"{name}.bias", wanted)
        else:
            yield from layer(wanted, path, f"{name}.weight", f"{name}.bias")
