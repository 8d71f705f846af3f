"""`cogjax.load`: the model in a folder, as what its family makes of it."""

import os
from collections.abc import Mapping
from typing import Any

from cogjax import compilation_cache, model_folder
from cogjax.adapter import with_adapters
from cogjax.catalogue import families, resolve
from cogjax.errors import UserError
from cogjax.ops.packed import WEIGHT_FORMATS, WeightFormat


def load(
    source: str | os.PathLike = "emoji",
    *,
    weights: WeightFormat = "float32",
    adapters: Mapping[str | os.PathLike, float] | None = None,
) -> Any:
    """Loads a shipped model by name, or the model in a folder.

    weights: how the transformer's are kept in memory, "float32", "bfloat16" or "int8".
    adapters: folders of adapters (docs/finetuning.md) and how much of each is added to
    the weights, before these are packed: {"DIR": 1.0}.

    Compiled programs are kept on disk (`compilation_cache.py`). Returns the family's
    pipeline: a `Generator`, `Reader` or `Codec` of `contracts.py`, or several of these,
    as a `TokensPipeline` is.

    Raises UserError for an unknown name, for a missing, damaged or unfitting file, and
    for an adapter of another model.
    """
    if weights not in WEIGHT_FORMATS:
        raise UserError(
            f"weights is {weights!r}, expected one of: {', '.join(WEIGHT_FORMATS)}"
        )
    compilation_cache.enable()
    model = with_adapters(model_folder.load(source), adapters or {})
    named = families()[model.family].pipeline if model.family else ""
    if not named:
        raise UserError(
            f"{source} has {', '.join(model.components) or 'nothing'} and generates no "
            "images: give the folder of a whole model"
        )
    return resolve(named)(model, weights=weights)
