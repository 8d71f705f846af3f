"""The keys of a config section: what each means is in the docstring of its dataclass.

A docstring says it as "name: meaning." or "one, other: meaning." of fields, behind the
end of a sentence; a meaning ends where the next one begins.
"""

import dataclasses
import inspect
import re
import types
import typing
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

REQUIRED = "required"


class Key(NamedTuple):
    """A key of a config. name: dotted. kind: what it may be. default: in words."""

    name: str
    kind: str
    default: str
    meaning: str


def keys_of(cls: type, path: str) -> list[Key]:
    """The keys of a section at a path that a dataclass types, sections in it too."""
    hints, found = typing.get_type_hints(cls), []
    meanings = _meanings(cls)
    for field in dataclasses.fields(cls):
        if not field.init:
            continue
        name, hint = f"{path}.{field.name}", hints[field.name]
        if dataclasses.is_dataclass(hint):
            found += keys_of(hint, name)
        else:
            own = _kind(hint), _default(field), meanings.get(field.name, "")
            found.append(Key(name, *own))
    return found


def _meanings(cls: type) -> dict[str, str]:
    """Field -> its meaning, for a class and the classes below it."""
    names = {field.name for field in dataclasses.fields(cls)}
    found: dict[str, str] = {}
    for each in reversed(cls.__mro__):
        found |= dict(_said(inspect.cleandoc(each.__doc__ or ""), names))
    return found


def _said(text: str, names: set[str]) -> Iterator[tuple[str, str]]:
    """(name, meaning) of the fields that a docstring says something of."""
    name = "|".join(sorted(map(re.escape, names), key=len, reverse=True))
    listed = rf"(?:(?<=^)|(?<=[.,;)]\s)|(?<=\n))((?:{name})(?:, (?:{name}))*):\s"
    text = re.sub(r"[ \t]*\n[ \t]*", " ", re.sub(r"\n\s*\n", "\n", text))
    starts = list(re.finditer(listed, text))
    ends = [*(start.start() for start in starts[1:]), len(text)]
    for start, end in zip(starts, ends, strict=False):
        meaning = text[start.end() : end].strip().rstrip(".,;")
        for each in start[1].split(", "):
            yield each, meaning


def _kind(hint: Any) -> str:
    """A type in words: number, text, one of 'a', 'b'."""
    words = {int: "whole number", float: "number", bool: "true or false", str: "text"}
    words |= {type(None): "none"}
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return "one of " + ", ".join(map(str, args))
    if hint in words:
        return words[hint]
    if origin is tuple:
        return f"list of {_kind(args[0])}" if args else "list"
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(_kind(arg) for arg in args))
    return "section"


def _default(field: dataclasses.Field) -> str:
    missing = dataclasses.MISSING
    if field.default_factory is not missing:
        value = field.default_factory()
    elif field.default is missing:
        return REQUIRED
    else:
        value = field.default
    return "empty" if value in ("", (), {}) else spelled(value)


def spelled(value: Any) -> str:
    """A value as `--config.KEY=VALUE` takes it."""
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, list | tuple):
        return ",".join(map(spelled, value))
    return str(value)
