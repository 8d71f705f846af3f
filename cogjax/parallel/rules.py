"""Where each array of a training state lives."""

from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec


def tree_shardings(abstract: Any, mesh: Mesh) -> Any:
    """One sharding a leaf: its largest dimension that divides over fsdp, or replicated.

    Parameters, optimiser moments, EMA and codebook statistics of equal shape get equal
    shardings, because the rule sees the shape alone.
    """
    ways = mesh.shape["fsdp"]

    def sharding(leaf):
        spec: list[str | None] = [None] * len(leaf.shape)
        sizes = [(size, -axis) for axis, size in enumerate(leaf.shape)]
        fitting = [pair for pair in sizes if pair[0] % ways == 0 and pair[0] >= ways]
        if ways > 1 and fitting:
            spec[-max(fitting)[1]] = "fsdp"
        return NamedSharding(mesh, PartitionSpec(*spec))

    return jax.tree.map(sharding, abstract)
