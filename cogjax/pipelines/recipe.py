"""How an image came about: what stands beside it, and inside its PNG file."""

from collections.abc import Mapping
from typing import Any

from cogjax.pipelines.contracts import Generation, Generator
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


def of_image(found: Generation, prompt: int, index: int) -> dict[str, Any]:
    """What an image has of its own, JSON-able; score and codes may be None."""
    codes, scores = found.codes, found.scores
    return {
        "prompt": found.prompts[prompt],
        "index": index,
        "score": None if scores is None else float(scores[prompt, index]),
        "codes": None if codes is None else codes[prompt, index].tolist(),
    }
