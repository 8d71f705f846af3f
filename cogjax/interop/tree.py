"""Flat names for nested parameter dicts: {"a": {"b": x}} <-> {"a/b": x}."""

from collections.abc import Mapping
from typing import Any

from cogjax.errors import UserError


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested string-keyed dicts -> one dict with names joined by "/"."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        path = f"{prefix}{name}"
        if isinstance(value, Mapping):
            flat |= flatten(value, path + "/")
        else:
            flat[path] = value
    return flat


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `flatten`."""
    tree: dict[str, Any] = {}
    for path, value in flat.items():
        *parents, name = path.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = value
    return tree


def check_leaves(found: Mapping[str, Any], wanted: Mapping[str, Any], what: str):
    """Compares flat trees strictly: same paths, same shapes.

    Raises UserError naming the first differing paths, with both shapes.
    """
    problems = [f"{path} is missing" for path in sorted(wanted.keys() - found.keys())]
    problems += [f"{path} is unknown" for path in sorted(found.keys() - wanted.keys())]
    problems += [
        f"{path} is {tuple(found[path].shape)}, expected {tuple(wanted[path].shape)}"
        for path in sorted(found.keys() & wanted.keys())
        if tuple(found[path].shape) != tuple(wanted[path].shape)
    ]
    if problems:
        more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
        raise UserError(
            f"{what} does not fit its config: {'; '.join(problems[:3])}{more}"
        )
