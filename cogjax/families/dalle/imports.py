"""OpenAI's dVAE: `encoder.pkl` and `decoder.pkl`, whole pickled modules.

The 1x1 convolution from one-hot codes is our codebook. Groups of the encoder count from
the finest, those of the decoder from the coarsest.
"""

from collections.abc import Iterator
from typing import Any

from cogjax.errors import UserError
from cogjax.interop.importer import (
    Conversion,
    Export,
    Import,
    Importer,
    count,
    leaves_of,
    lost_size,
    making,
    shape_of,
)
from cogjax.interop.rules import Rule, Shapes, copy, layer, layers_of, of_one
from cogjax.interop.source import Source, Tensors
from cogjax.models.dvae import DVAEConfig

_IMAGE_SIZE = 256
_LEVELS = 4
_FIRST = "blocks.input.w"
_GROUPS = r"blocks\.group_(\d+)\.block_1\.res_path\.conv_1\.w"
_BLOCKS = r"blocks\.group_1\.block_(\d+)\.res_path\.conv_1\.w"
_LICENCE = "modified MIT (openai/DALL-E)"


def _detect(source: Source) -> bool:
    return all(_FIRST in tensors for tensors in source.weights.values())


def _plan(source: Source) -> Import:
    encoder, decoder = _halves(source)
    config = _config(encoder, decoder)
    wanted = leaves_of(config)
    tensors = {f"encoder.{name}": x for name, x in encoder.items()}
    tensors |= {f"decoder.{name}": x for name, x in decoder.items()}
    conversion = Conversion(config, list(_rules(wanted, config)), tensors)
    return Import("", {"tokenizer": conversion}, _LICENCE)


def _halves(source: Source) -> tuple[Tensors, Tensors]:
    """(encoder, decoder): the kernel of 7x7 is the encoder's."""
    found: dict[bool, Tensors] = {}
    for path, tensors in source.weights.items():
        is_encoder = shape_of(tensors, _FIRST, 4)[2:] == (7, 7)
        if is_encoder in found:
            half = "encoders" if is_encoder else "decoders"
            raise UserError(f"{path} and another file are both {half}: give only one")
        found[is_encoder] = tensors
    if len(found) != 2:
        missing = "encoder.pkl" if False in found else "decoder.pkl"
        raise UserError(
            f"{', '.join(map(str, source.weights))} is half of the dVAE: give "
            f"{missing} too, or the folder with both"
        )
    return found[True], found[False]


def _config(encoder: Tensors, decoder: Tensors) -> DVAEConfig:
    width = shape_of(encoder, _FIRST, 4)[0]
    code_dim, codebook_size = shape_of(decoder, _FIRST, 4)[:2]
    groups, blocks = (count(encoder, pattern) - 1 for pattern in (_GROUPS, _BLOCKS))
    if not 1 <= groups <= 8:
        raise UserError(f"the encoder has {groups} groups, OpenAI's has 4")
    with making("dVAE"):
        return DVAEConfig(
            image_size=_IMAGE_SIZE,
            grid=_IMAGE_SIZE // 2 ** (groups - 1),
            code_dim=code_dim,
            width=width,
            blocks=blocks,
            codebook_size=codebook_size,
        )


def _rules(wanted: Shapes, config: DVAEConfig) -> Iterator[Rule]:
    shape = config.code_dim, config.codebook_size, 1, 1
    first = f"decoder.{_FIRST}"
    yield of_one("codebook", first, shape, lambda x: x[:, :, 0, 0].T)
    yield copy("decoder/bias", "decoder.blocks.input.b", wanted)
    for path in layers_of(wanted):
        if path != "decoder":
            source = _source(path, config.levels)
            yield from layer(wanted, path, f"{source}.w", f"{source}.b")


def _source(path: str, levels: int) -> str:
    """ "encoder/down_1_0/conv_2" -> encoder.blocks.group_2.block_1.res_path.conv_3."""
    half, name, *rest = path.split("/")
    if not rest:
        return f"{half}.blocks." + {"in": "input", "out": "output.conv"}[name]
    _, level, block = name.split("_")
    group = int(level) + 1 if half == "encoder" else levels - int(level)
    inner = "id_path"
    if rest != ["id"]:
        inner = f"res_path.conv_{int(rest[0].removeprefix('conv_')) + 1}"
    return f"{half}.blocks.group_{group}.block_{int(block) + 1}.{inner}"


def _export(config: DVAEConfig, model: Any, torch: bool) -> Export | None:
    """None for another number of levels than OpenAI's classes have."""
    del model, torch
    if config.levels != _LEVELS:
        return None
    rules = list(_rules(leaves_of(config), config))
    return Export(
        "openai/DALL-E, dall_e.encoder.Encoder and dall_e.decoder.Decoder",
        rules,
        {f"{half}.": f"{half}.safetensors" for half in ("encoder", "decoder")},
        notes=lost_size(config.image_size, _IMAGE_SIZE),
    )


DVAE = Importer(
    "OpenAI's dVAE (encoder.pkl, decoder.pkl)",
    _detect,
    _plan,
    exports={"dvae": _export},
)
