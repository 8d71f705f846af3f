"""Flat names for nested parameter dicts: {"a": {"b": x}} <-> {"a/b": x}."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from cogjax.errors import UserError, shown

# Names of parameters are words; nesting is far below in any network.
_PART = re.compile(r"[^\x00-\x1f\x7f/\ud800-\udfff]{1,200}")
_MAX_DEPTH = 32


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested string-keyed dicts -> one dict with names joined by "/".

    ValueError for a name that two of them would have.
    """
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        path = f"{prefix}{name}"
        inner = isinstance(value, Mapping)
        found = flatten(value, path + "/") if inner else {path: value}
        if twice := flat.keys() & found.keys():
            raise ValueError(f"{shown(min(twice))} is there twice")
        flat |= found
    return flat


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `flatten`.

    ValueError for an odd name, and for one that is the beginning of another.
    """
    tree: dict[str, Any] = {}
    for path, value in flat.items():
        *parents, name = parts = path.split("/")
        if len(parts) > _MAX_DEPTH or not all(map(_PART.fullmatch, parts)):
            raise ValueError(f"{shown(path)} is no name of a weight")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                raise ValueError(f"{shown(path)} begins with another weight's name")
        if name in node:
            raise ValueError(f"{shown(path)} begins another weight's name")
        node[name] = value
    return tree


def check_leaves(found: Mapping[str, Any], wanted: Mapping[str, Any], what: str):
    """Compares flat trees strictly: same paths, same shapes.

    Raises UserError naming the first differing paths, with both shapes.
    """
    problems = [f"{path} is missing" for path in sorted(wanted.keys() - found.keys())]
    unknown = sorted(found.keys() - wanted.keys())
    names = [path if len(path) <= 200 else shown(path) for path in unknown]
    problems += [f"{name} is unknown" for name in names]
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


def check_values(found: Mapping[str, Any], wanted: Mapping[str, Any], what: str):
    """Checks the arrays of flat trees: the wanted types, and finite.

    Raises UserError naming the first weight that is not.
    """
    for path, leaf in found.items():
        if leaf.dtype != wanted[path].dtype:
            raise UserError(
                f"{what}: {path} is {leaf.dtype}, expected {wanted[path].dtype}"
            )
        if np.issubdtype(leaf.dtype, np.floating) and not _is_finite(leaf):
            raise UserError(f"{what}: {path} has values that are no numbers (NaN, inf)")


def _is_finite(leaf: np.ndarray) -> bool:
    # A sum is quicker, makes no copy, and is finite but for huge weights.
    with np.errstate(all="ignore"):
        return bool(np.isfinite(leaf.sum()) or np.isfinite(leaf).all())
