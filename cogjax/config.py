"""Run configuration: a config file, overrides, and strictly typed sections.

A config file is a Python program with `get_config(arg)`: run only your own. A saved run
keeps its resolved config as JSON, and is reloaded from that, never from the program.

    config = load("cogview/emoji:transformer,nano", ["--config.optim.lr=3e-4"])
    optim = section(OptimConfig, config["optim"], "optim")     # frozen dataclass
"""

import ast
import dataclasses
import json
import math
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from cogjax.config_files import read_config
from cogjax.errors import UserError, did_you_mean, shown
from cogjax.files import write_atomic

SECTIONS = (
    "task",
    "model",
    "data",
    "lora",
    "optim",
    "mesh",
    "train",
    "eval",
    "sample",
)
_FLAG = "--config."
_MISSING = object()
_MAX_DEPTH = 16  # of sections in sections

T = TypeVar("T")


def check_ranges(config: Any, **ranges: tuple[float, float]) -> None:
    """ValueError naming a field of a config that is not in its range [low, high].

    All values of a field that is a tuple must be in the range.
    """
    for name, (low, high) in ranges.items():
        value = getattr(config, name)
        values = value if isinstance(value, tuple) else (value,)
        if not all(low <= each <= high for each in values):
            raise ValueError(f"{name} is {shown(value)}, expected {low} to {high}")


def load(spec: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Resolves a config of any form (`config_files.py`) into nested plain dicts.

    overrides: command-line words `--config.a.b=v` or `--config.a.b`, `v`. Running a .py
    file executes it. Raises UserError for a missing or failing file, an unknown section
    and an override that does not fit; keys inside sections are checked by `section`.
    """
    import ml_collections

    found = load_json(spec) if spec.endswith(".json") else read_config(spec)
    config = ml_collections.ConfigDict(_plain_keys(found))
    _check_sections(config)
    # Overrides go in while references between values are alive, so that a length that
    # the file derives from another follows it.
    with config.unlocked(), config.ignore_type():
        for key, text in parse_overrides(overrides):
            _override(config, key, text)
    return config.to_dict()


def parse_overrides(words: Sequence[str]) -> list[tuple[str, str]]:
    """Splits `--config.a.b=v` and `--config.a.b v` into ("a.b", "v") pairs."""
    pairs, rest = [], list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith(_FLAG):
            raise UserError(f"unexpected argument {_name(word)}{_advice(word[:100])}")
        key, equals, text = word.removeprefix(_FLAG).partition("=")
        if not equals and (not rest or rest[0].startswith(_FLAG)):
            raise UserError(f"{_name(word)} has no value: write {word[:100]}=VALUE")
        pairs.append((key, text if equals else rest.pop(0)))
    return pairs


def _advice(word: str) -> str:
    if word.startswith("-"):
        key = word.lstrip("-").removeprefix("config").lstrip(".")
        return f": config values are set as {_FLAG}{key or 'optim.lr=3e-4'}"
    return f": config values are set as {_FLAG}section.key=value"


def section(cls: type[T], mapping: Mapping[str, Any], path: str = "") -> T:
    """Builds the dataclass `cls` from a config section; UserError for a misfit.

    Fields may be int, float, bool, str, Literal, tuple, dict, a dataclass, or a union
    of these and None; of several dataclasses the first that has all keys is
    taken. 3 is taken for 3.0 and the reverse, a list for a tuple, and text is read as
    the field's type; nothing else is converted, and numbers are finite.
    `path` names the section in messages.
    """
    values = _values(cls, mapping, path)
    if missing := _missing(cls, mapping):
        raise UserError(f"config key '{_prefix(path)}{missing[0]}' is required")
    try:
        return cls(**values)
    except (ValueError, TypeError) as error:
        where = f"config section '{path}': " if path else ""
        raise UserError(f"{where}{error}") from error


def check_section(cls: type, mapping: Mapping[str, Any], path: str) -> None:
    """UserError as `section` gives, but not for keys that are required and missing."""
    _values(cls, mapping, path)
    if not _missing(cls, mapping):
        section(cls, mapping, path)


def _values(cls: type, mapping: Mapping[str, Any], path: str) -> dict[str, Any]:
    """The keys of a section as the types of the fields of `cls`."""
    if not isinstance(mapping, Mapping):
        raise UserError(f"config key '{path}' expects a section, got {shown(mapping)}")
    prefix, hints = _prefix(path), typing.get_type_hints(cls)
    fields = [f.name for f in dataclasses.fields(cls) if f.init]
    for key in mapping:
        if key not in fields:
            hint = did_you_mean(str(key)[:100], fields, prefix)
            raise UserError(f"unknown config key {_name(f'{prefix}{key}')}{hint}")
    return {
        name: _convert(mapping[name], hints[name], prefix + name)
        for name in fields
        if name in mapping
    }


def _missing(cls: type, mapping: Mapping[str, Any]) -> list[str]:
    """Keys that a section of `cls` has to have, and has not."""
    fields = (f for f in dataclasses.fields(cls) if f.init and _required(f))
    return [field.name for field in fields if field.name not in mapping]


def _prefix(path: str) -> str:
    return f"{path}." if path else ""


def save_json(config: Mapping[str, Any], path: str | Path) -> Path:
    """Writes a resolved config as JSON, whole or not at all."""
    try:
        text = json.dumps(config, indent=2, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise UserError(f"the config cannot be saved as JSON: {error}") from error
    return write_atomic(path, text + "\n")


def load_json(path: str | Path) -> dict[str, Any]:
    """Reads a config that `save_json` wrote; tuples come back as lists."""
    try:
        config = json.loads(Path(path).read_bytes())
    except OSError as error:
        raise UserError(f"cannot read config {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"config {path} is not JSON: {error}") from error
    if not isinstance(config, dict):
        raise UserError(f"config {path} holds no sections, expected a JSON object")
    return config


def _plain_keys(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The config; UserError for a key with a dot, which stands between keys."""
    for key, value in config.items():
        if not isinstance(key, str):
            raise UserError(f"config key {shown(key)} is no text")
        if "." in key:
            raise UserError(f"config key {_name(key)} has a dot: nest sections instead")
        if isinstance(value, Mapping):
            _plain_keys(value)
    return config


def _check_sections(config: Mapping[str, Any]) -> None:
    for name in config:
        _check_section(name)
        if not hasattr(config[name], "items"):
            raise UserError(
                f"config key '{name}' expects a section, got {shown(config[name])}"
            )


def _check_section(name: str) -> None:
    if name not in SECTIONS:
        hint = did_you_mean(str(name)[:100], SECTIONS)
        raise UserError(f"unknown config key {_name(name)}{hint}")


def _override(config: Any, key: str, text: str) -> None:
    """Sets one dotted key, reading `text` in the light of the value it replaces."""
    *parents, last = key.split(".")
    if not parents or not all((*parents, last)):
        raise UserError(
            f"{_name(_FLAG + key)} names no key: write {_FLAG}optim.lr=3e-4"
        )
    if len(parents) > _MAX_DEPTH:
        raise UserError(f"{_name(_FLAG + key)} nests too deep, at most {_MAX_DEPTH}")
    _check_section(parents[0])
    for depth, name in enumerate(parents):
        if name not in config:
            config[name] = {}
        config = config[name]
        if not hasattr(config, "items"):
            key = ".".join(parents[: depth + 1])
            raise UserError(f"config key {_name(key)} is a value")
    old = config.get(last, _MISSING)
    if hasattr(old, "items"):
        raise UserError(f"config key {_name(key)} is a section: set one of its keys")
    config[last] = text if isinstance(old, str) else _literal(text, old)


def _literal(text: str, old: Any) -> Any:
    """Reads a Python literal, true/false/none in any case, or leaves the text as is."""
    word = {"true": True, "false": False, "none": None, "null": None}
    if text.lower() in word:
        return word[text.lower()]
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text
    if type(old) is int and isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _required(field: dataclasses.Field) -> bool:
    none = dataclasses.MISSING
    return field.default is none and field.default_factory is none


def _name(key: Any) -> str:
    """A dotted key in quotes; a long one is cut."""
    return f"'{key}'" if len(str(key)) <= 100 else shown(key)


class _Misfit(Exception):
    """A value that does not fit its field; carries the expectation."""


def _convert(value: Any, hint: Any, path: str) -> Any:
    try:
        return _fit(value, hint, path)
    except _Misfit as misfit:
        message = f"config key {_name(path)} expects {misfit}, got {shown(value)}"
        raise UserError(message) from None


def _fit(value: Any, hint: Any, path: str) -> Any:
    """Returns `value` as the type `hint`; raises _Misfit naming the expected type."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        return _fit_union(value, args, path)
    if origin is Literal:
        if value not in args:
            choices = ", ".join(repr(a) for a in args)
            raise _Misfit(f"one of {choices}")
        return value
    if dataclasses.is_dataclass(hint):
        return value if isinstance(value, hint) else section(hint, value, path)
    if (origin or hint) in (tuple, list):
        return _fit_tuple(value, args, path)
    if (origin or hint) in (dict, Mapping):
        if not isinstance(value, Mapping):
            raise _Misfit("a section")
        item = args[1] if args else Any
        return {k: _convert(v, item, f"{path}.{k}") for k, v in value.items()}
    return _fit_scalar(value, hint)


def _fit_union(value: Any, members: tuple, path: str) -> Any:
    none = type(None)
    if none in members and (value is None or value in ("none", "None", "null")):
        return None
    if isinstance(value, Mapping):
        members = sorted(members, key=lambda member: not _has_keys(member, value))
    wanted = []
    for member in members:
        try:
            return _fit(value, member, path)
        except _Misfit as misfit:
            wanted.append(str(misfit))
    raise _Misfit(" or ".join(wanted))


def _has_keys(hint: Any, value: Mapping[str, Any]) -> bool:
    """Whether `hint` is a dataclass with all keys of a section."""
    if not dataclasses.is_dataclass(hint):
        return False
    return value.keys() <= {field.name for field in dataclasses.fields(hint)}


def _fit_tuple(value: Any, args: tuple, path: str) -> tuple:
    if isinstance(value, str):
        value = _literal(value if "," in value else f"({value},)", None)
    if not isinstance(value, tuple | list):
        raise _Misfit("a list")
    if not args or args[-1] is Ellipsis:
        hints = (args[0] if args else Any,) * len(value)
    elif len(args) == len(value):
        hints = args
    else:
        raise _Misfit(f"{len(args)} values")
    pairs = zip(value, hints, strict=True)
    return tuple(_convert(v, h, f"{path}[{i}]") for i, (v, h) in enumerate(pairs))


def _fit_scalar(value: Any, hint: Any) -> Any:
    """int, float, bool, str or None; text is read as the type, a bool is no number."""
    if isinstance(value, str) and hint is not str:
        value = _literal(value, _MISSING)
    if hint is float and type(value) is int:
        value = float(value)
    if hint is int and type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is hint and not (hint is float and not math.isfinite(value)):
        return value
    names = {int: "a whole number", float: "a number", bool: "true or false"}
    names |= {str: "text", type(None): "none"}
    raise _Misfit(names.get(hint, str(hint)))
