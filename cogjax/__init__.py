"""Text-to-image generation in JAX: `model = cogjax.load("emoji")`.

Importing the package is cheap: the public names are looked up on first use, so that
neither `import cogjax` nor `cogjax --help` pays for JAX.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # What `__getattr__` gives, for who reads types.
    from cogjax.errors import Notice, UserError
    from cogjax.model import Component, Model
    from cogjax.pipelines.attention_found import Attention
    from cogjax.pipelines.contracts import (
        Codec,
        Embedder,
        Generation,
        Generator,
        Reader,
        Scorer,
    )
    from cogjax.pipelines.loading import load
    from cogjax.pipelines.request import Request

__version__ = "0.1.0"

_CONTRACTS = "cogjax.pipelines.contracts"
_PUBLIC = {
    "Attention": "cogjax.pipelines.attention_found",
    "Codec": _CONTRACTS,
    "Component": "cogjax.model",
    "Embedder": _CONTRACTS,
    "Generation": _CONTRACTS,
    "Generator": _CONTRACTS,
    "Model": "cogjax.model",
    "Notice": "cogjax.errors",
    "Reader": _CONTRACTS,
    "Request": "cogjax.pipelines.request",
    "Scorer": _CONTRACTS,
    "UserError": "cogjax.errors",
    "load": "cogjax.pipelines.loading",
}
__all__ = [
    "Attention",
    "Codec",
    "Component",
    "Embedder",
    "Generation",
    "Generator",
    "Model",
    "Notice",
    "Reader",
    "Request",
    "Scorer",
    "UserError",
    "load",
]


def __getattr__(name: str):
    """Imports the module that holds a public name when it is first asked for."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'cogjax' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
