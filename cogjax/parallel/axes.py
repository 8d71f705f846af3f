"""Names of array axes, their mesh axes, and the mesh in scope.

A network names its axes once; this table says which devices share one. Without a mesh
in scope (`jax.set_mesh`) nothing is split and nothing is constrained.
"""

import math
from collections.abc import Callable, Sequence

import jax
from jax import Array
from jax.sharding import AbstractMesh, AxisType, Mesh, PartitionSpec

# batch: examples. embed: width of parameters, gathered where they are used (FSDP).
# heads, mlp, vocab: split over the devices of a tensor-parallel group, and so is
# sequence: positions between the layers, where only norms and sums work on them.
MESH_AXES = {
    "batch": ("data", "fsdp"),
    "embed": "fsdp",
    "heads": "tensor",
    "mlp": "tensor",
    "vocab": "tensor",
    "sequence": "tensor",
    None: None,
}
Axes = tuple[str | None, ...]


def partition(axes: Sequence[str | None]) -> PartitionSpec:
    """Mesh axes of named array axes."""
    return PartitionSpec(*(MESH_AXES[name] for name in axes))


def constrain(x: Array, *axes: str | None) -> Array:
    """`x` split as its axes are named; unchanged without a mesh or in `shard_map`.

    Inside a `shard_map` of some mesh axes it is split over the others. An axis with
    fewer places than devices stays whole, such as the one position that is generated:
    one device would hold it while the others wait.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if not _automatic(mesh):
        return x
    spec = _within(mesh, partition(axes))
    whole = (
        ways(mesh, names) > size for size, names in zip(x.shape, spec, strict=True)
    )
    spec = [None if short else names for names, short in zip(spec, whole, strict=True)]
    return jax.lax.with_sharding_constraint(x, PartitionSpec(*spec))


def _automatic(mesh: AbstractMesh) -> set[str]:
    """Mesh axes that no `shard_map` around has taken; none without a mesh."""
    types = zip(mesh.axis_names, mesh.axis_types, strict=True)
    return {name for name, kind in types if kind == AxisType.Auto}


def _within(mesh: AbstractMesh, spec: PartitionSpec) -> PartitionSpec:
    """The spec without the axes that a `shard_map` around has taken."""
    free = _automatic(mesh)

    def left(names):
        names = (names,) if isinstance(names, str) else names or ()
        return tuple(name for name in names if name in free) or None

    return PartitionSpec(*(left(names) for names in spec))


def ways(mesh: Mesh | AbstractMesh, names: str | Sequence[str] | None) -> int:
    """Devices along the mesh axes that an array axis is split over."""
    names = (names,) if isinstance(names, str) else names or ()
    return math.prod(mesh.shape[name] for name in names)


def over_heads(attend: Callable[..., Array]) -> Callable[..., Array]:
    """`attend` of arrays [b, t, n, h] or [b, t], each device with its own b and n.

    The compiler cannot split a kernel by itself: it would gather all of its arguments.
    Without a mesh it is `attend` itself. The data and fsdp axes must divide b, and the
    tensor axis n.
    """

    def run(*arrays: Array) -> Array:
        mesh = jax.sharding.get_abstract_mesh()
        names = _automatic(mesh)
        if not names:
            return attend(*arrays)
        spec = _within(mesh, partition(("batch", None, "heads", None)))
        specs = tuple(PartitionSpec(*spec[: x.ndim]) for x in arrays)
        sharded = jax.shard_map(
            attend, in_specs=specs, out_specs=spec, axis_names=names, check_vma=False
        )
        return sharded(*arrays)

    return run
