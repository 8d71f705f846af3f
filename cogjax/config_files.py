"""What a config is written as, beside the JSON of a run.

path.py[:ARG]      Python with `get_config(arg)`: run only your own
path.yaml          sections with keys
family/name[:ARG]  a shipped experiment, such as cogview/icons:transformer
"""

import importlib
import inspect
import json
import os
import re
import sys
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cogjax.errors import UserError, did_you_mean, shown

_SHIPPED = "cogjax.experiments"
_YAML = (".yaml", ".yml")


def read_config(spec: str) -> Any:
    """What a config is written as gives: sections, not checked further.

    Running a .py file executes it. UserError for a missing or failing file, and for a
    name that no shipped experiment has.
    """
    path, colon, arg = spec.partition(".py:")
    path = Path(path + ".py" if colon else path)
    if path.suffix in _YAML:
        return _load_yaml(path)
    if path.suffix == ".py":
        return _run(path, arg)
    name, _, arg = spec.partition(":")
    return _run(_find(name), arg)


def shipped_configs() -> dict[str, Path]:
    """Programs of the shipped experiments that give a config, by family/name."""
    found = {}
    for folder in _places():
        for path in sorted(folder.glob("*/*.py")):
            if re.search(r"^def get_config\(", path.read_text("utf-8"), re.M):
                found[f"{path.parent.name}/{path.stem}"] = path
    return found


def _load_yaml(path: Path) -> dict[str, Any]:
    """As `config.load_json`, of YAML."""
    import yaml

    from cogjax.plain_yaml import UniqueKeys

    try:
        config = yaml.load(path.read_bytes(), UniqueKeys)
        json.dumps(config)  # A YAML file may hold dates.
    except OSError as error:
        raise UserError(f"cannot read config {path}: {error.strerror}") from error
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        words = " ".join(str(error).split())
        raise UserError(f"config {path} is not plain YAML: {words}") from error
    if not isinstance(config, dict):
        raise UserError(f"config {path} holds no sections, expected keys with values")
    return config


def _places() -> list[Path]:
    """Folders of the shipped experiments, by family."""
    return [Path(place) for place in importlib.import_module(_SHIPPED).__path__]


def _find(name: str) -> Path:
    """The program of a shipped experiment; UserError for another name."""
    there = shipped_configs()
    if name not in there:
        raise UserError(
            f"config {name!r} is no shipped experiment, and no .py, .yaml or .json "
            f"file{did_you_mean(name, there)}"
        )
    return there[name]


def _run(path: Path, arg: str) -> Any:
    """Executes a config file and returns the result of its get_config(`arg`)."""
    try:
        source = path.read_text(encoding="utf-8")
        code = compile(source, str(path), "exec")
    except OSError as error:
        there = "/".join(path.with_suffix("").parts[-2:])
        also = f"; {there} is a shipped one" if there in shipped_configs() else ""
        message = f"cannot read config {path}: {error.strerror}{also}"
        raise UserError(message) from error
    except (SyntaxError, ValueError) as error:
        raise UserError(f"config {path} is not valid Python: {error}") from error
    module = types.ModuleType("config")
    module.__file__ = str(path)
    # As for `python path`, so that a config may import its neighbours.
    folder, before = str(path.parent.resolve()), set(sys.modules)
    sys.path.insert(0, folder)
    try:
        exec(code, module.__dict__)
        return _call(getattr(module, "get_config", None), path, arg)
    except UserError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise UserError(f"config {path} failed: {reason}") from error
    finally:
        sys.path.remove(folder)
        # The next config may have a neighbour of the same name.
        for name in set(sys.modules) - before:
            if (
                os.path.dirname(getattr(sys.modules[name], "__file__", "") or "")
                == folder
            ):
                del sys.modules[name]


def _call(get_config: Any, path: Path, arg: str) -> Any:
    if not callable(get_config):
        raise UserError(f"config {path} has no function get_config")
    args = (arg,) if arg else ()
    try:
        inspect.signature(get_config).bind(*args)
    except TypeError as error:
        wanted = "takes no argument" if arg else f"needs an argument: {path}:ARGUMENT"
        raise UserError(f"config {path} {wanted}") from error
    config = get_config(*args)
    if not isinstance(config, Mapping) and not hasattr(config, "to_dict"):
        raise UserError(
            f"config {path}: get_config returned {shown(config)}, not sections"
        )
    return config
