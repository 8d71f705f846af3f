"""How images came about: what stands beside them, and inside their PNG files."""

from collections.abc import Mapping
from typing import Any

from cogjax.pipelines.contracts import Generator
from cogjax.pipelines.request import Request


def recipe(
    version: str, named: Mapping[str, Any], model: Generator, request: Request
) -> dict[str, Any]:
    """What the images of a request have in common, JSON-able, in a file's order.

    version: of cogjax. named: by what name the model was loaded, and how. Settings are
    those that take effect.
    """
    return {
        "cogjax": version,
        "model": {**named, "card": model.card},
        "seed": request.seed,
        "settings": model.settings(request),
    }
