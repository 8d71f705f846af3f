"""LlamaGen's VQ under the release's names: a VQGAN whose codes have length 1.

The last level alone attends. Levels of the decoder count from the coarsest there, and
from the finest here.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from cogjax.errors import UserError
from cogjax.interop import vqgan
from cogjax.interop.importer import Export, count, leaves_of, making, shape_of
from cogjax.interop.rules import Rule, of_one, sources_of
from cogjax.interop.source import Tensors
from cogjax.models.vqgan import VQGANConfig

RELEASED = VQGANConfig(code_dim=8, form="cosine")
_FIRST = "encoder.conv_blocks.0.res.0.conv1.weight"
_LEVELS = r"encoder\.conv_blocks\.(\d+)\.res\.0\.conv1\.weight"
_BLOCKS = r"encoder\.conv_blocks\.0\.res\.(\d+)\.conv1\.weight"
_CODES = "quantize.embedding.weight"
_MIDDLE = {"mid.block_1": "mid.0", "mid.attn_1": "mid.1", "mid.block_2": "mid.2"}
# Which codes were used last; other weights of a training run.
DROPPED = r"quantize\.codebook_used|(ema|discriminator)\..*"


def is_vq(tensors: Tensors) -> bool:
    """Whether tensors are those of a VQ."""
    return _FIRST in tensors


def config_of(tensors: Tensors, image_size: int) -> VQGANConfig:
    """The sizes of its tensors; UserError for what is no VQ of `image_size` pixels."""
    width = shape_of(tensors, "encoder.conv_in.weight", 4)[0]
    levels = count(tensors, _LEVELS)
    if not 1 <= levels <= 16:
        raise UserError(f"the encoder has {levels} levels, expected 1 to 16")
    names = [_FIRST.replace("blocks.0", f"blocks.{i}") for i in range(levels)]
    widths = [shape_of(tensors, name, 4)[0] for name in names]
    codebook_size, code_dim = shape_of(tensors, _CODES, 2)
    multipliers = vqgan.multiples(width, widths)
    with making("VQ"):
        return VQGANConfig(
            image_size=image_size,
            width=width,
            multipliers=multipliers,
            res_blocks=count(tensors, _BLOCKS),
            attention=(image_size // 2 ** (levels - 1),),
            z_dim=shape_of(tensors, "encoder.conv_out.weight", 4)[0],
            code_dim=code_dim,
            codebook_size=codebook_size,
            form="cosine",
        )


def rules_of(config: VQGANConfig) -> Iterator[Rule]:
    """The rules of its leaves."""
    wanted = leaves_of(config)
    yield of_one("codebook", _CODES, wanted["codebook"].shape, _unit)
    levels = len(config.multipliers)
    yield from vqgan.layers(wanted, lambda path: _name(path, levels))


def export(config: VQGANConfig, model: Any, torch: bool) -> Export | None:
    """None for another network. Codes of our model have length 1 already."""
    del model, torch
    if config.form != "cosine":
        return None
    table, *rules = rules_of(config)
    rules.insert(0, of_one(table.leaf, _CODES, table.sources[_CODES]))
    if config != config_of(sources_of(rules), config.image_size):
        return None
    return Export(
        "FoundationVision/LlamaGen, tokenizer.tokenizer_image.vq_model.VQModel",
        rules,
        {"": "vq.safetensors"},
        {"vq.json": json.dumps({"image_size": config.image_size})},
    )


def _name(path: str, levels: int) -> str:
    """ "encoder/down.1.block.0/conv1" -> encoder.conv_blocks.1.res.0.conv1."""
    half, _, rest = path.replace("/", ".").partition(".")
    for ours, theirs in _MIDDLE.items():
        rest = rest.replace(ours, theirs)
    if match := re.fullmatch(r"(down|up)\.(\d+)\.(.*)", rest):
        level = int(match[2])
        level = level if match[1] == "down" else levels - 1 - level
        inner = match[3].replace("block.", "res.", 1)
        rest = f"conv_blocks.{level}.{inner}"
    return f"{half}.{rest}" if rest else half


def _unit(codes: np.ndarray) -> np.ndarray:
    """Codes are read at length 1, and need not be stored so; those that are stay."""
    length = np.linalg.norm(codes.astype(np.float64), axis=1, keepdims=True)
    length = np.where(np.abs(length - 1) < 1e-6, 1, np.maximum(length, 1e-12))
    return (codes / length).astype(codes.dtype)
