"""Where each array of a training state lives, from the path of its parameter."""

import math
import re
from collections.abc import Sequence
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from cogjax.errors import UserError
from cogjax.parallel.axes import Axes, partition, ways

# Smaller arrays are whole on every device: splitting them costs more than it saves.
SMALL = 2**18
Rules = Sequence[tuple[str, Axes]]


def tree_shardings(abstract: Any, mesh: Mesh, rules: Rules = ()) -> Any:
    """One sharding a leaf of a tree of shapes.

    rules: (regular expression of the end of a path, names of its last axes); the first
    that matches counts. Optimiser moments, EMA and codebook statistics have the paths
    of their parameters at their ends, and so the same shardings. Other leaves, and
    arrays that are still large where a rule does not say fsdp (biases of all layers),
    are split over fsdp along their largest dimension that divides.

    Raises:
      UserError: the mesh does not divide an axis that a rule names.
    """

    def sharding(path, leaf):
        name = path_name(path)
        for pattern, axes in rules:
            if re.search(rf"(^|/){pattern}$", name) and len(axes) <= len(leaf.shape):
                spec = partition((None,) * (len(leaf.shape) - len(axes)) + axes)
                _check(name, leaf.shape, spec, mesh)
                return NamedSharding(mesh, _split(leaf, spec, mesh))
        whole = PartitionSpec(*(None,) * len(leaf.shape))
        return NamedSharding(mesh, _split(leaf, whole, mesh))

    return jax.tree_util.tree_map_with_path(sharding, abstract)


def path_name(path: Sequence[Any]) -> str:
    """Keys of a tree path, joined by slashes."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _check(name: str, shape: Sequence[int], spec: PartitionSpec, mesh: Mesh) -> None:
    for size, axes in zip(shape, spec, strict=True):
        count = ways(mesh, axes)
        if size % count:
            names = (axes,) if isinstance(axes, str) else axes
            raise UserError(
                f"mesh.{' x mesh.'.join(names)} is {count}: it does not divide {size} "
                f"of {name} {tuple(shape)}"
            )


def _split(leaf: Any, spec: PartitionSpec, mesh: Mesh) -> PartitionSpec:
    """The spec, with fsdp along the largest dimension if the array is still large."""
    count = mesh.shape["fsdp"]
    there = [(axes,) if isinstance(axes, str) else tuple(axes or ()) for axes in spec]
    split = [ways(mesh, axes) for axes in there]
    sizes = [size // n for size, n in zip(leaf.shape, split, strict=True)]
    found = [(size, -axis) for axis, size in enumerate(sizes) if size % count == 0]
    said = any("fsdp" in axes for axes in there)
    if count > 1 and not said and found and math.prod(sizes) >= SMALL:
        axis = -max(found)[1]
        there[axis] += ("fsdp",)
    return PartitionSpec(
        *(axes[0] if len(axes) == 1 else axes or None for axes in there)
    )
