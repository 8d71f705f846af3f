"""Scripts of `experiments/` as modules."""

import importlib.util
from pathlib import Path
from types import ModuleType

EXPERIMENTS = Path(__file__).parents[1] / "experiments"


def load_script(name: str) -> ModuleType:
    """The module of `experiments/NAME`, such as "race/shapes.py"; nothing is run."""
    path = EXPERIMENTS / name
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
