"""Text-to-image generation in JAX: `model = cogjax.load("emoji")`.

Importing the package is cheap: the public names are looked up on first use, so that
neither `import cogjax` nor `cogjax --help` pays for JAX.
"""

import importlib

__version__ = "0.1.0"

_PUBLIC = {
    "UserError": "cogjax.errors",
    "load": "cogjax.pipelines.loading",
}
__all__ = ["UserError", "load"]


def __getattr__(name: str):
    """Imports the module that holds a public name when it is first asked for."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'cogjax' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
