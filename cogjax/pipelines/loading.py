"""`cogjax.load`: the model in a folder, as what its family makes of it."""

import os
from typing import Any

from cogjax import compilation_cache, model_folder
from cogjax.catalogue import families, resolve
from cogjax.errors import UserError
from cogjax.ops.packed import WEIGHT_FORMATS, WeightFormat


def load(
    source: str | os.PathLike = "emoji", *, weights: WeightFormat = "float32"
) -> Any:
    """Loads a shipped model by name, or the model in a folder.

    weights: how the transformer's are kept in memory, "float32", "bfloat16" or "int8".

    Compiled programs are kept on disk (`compilation_cache.py`). Returns the family's
    pipeline: a `Generator`, `Reader` or `Codec` of `contracts.py`, or several of these,
    as a `TokensPipeline` is.

    Raises UserError for an unknown name and for a missing, damaged or unfitting file.
    """
    if weights not in WEIGHT_FORMATS:
        raise UserError(
            f"weights is {weights!r}, expected one of: {', '.join(WEIGHT_FORMATS)}"
        )
    compilation_cache.enable()
    model = model_folder.load(source)
    named = families()[model.family].pipeline if model.family else ""
    if not named:
        raise UserError(
            f"{source} has {', '.join(model.components) or 'nothing'} and generates no "
            "images: give the folder of a whole model"
        )
    return resolve(named)(model, weights=weights)
