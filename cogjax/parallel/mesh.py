"""The device mesh: axes data, fsdp and tensor."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import (
    AbstractMesh,
    AxisType,
    Mesh,
    NamedSharding,
    PartitionSpec,
)

from cogjax.errors import UserError

AXES = ("data", "fsdp", "tensor")


@dataclass(frozen=True)
class MeshConfig:
    """Devices along each axis; -1 takes all that the other axes leave.

    data: parts of a batch. fsdp: parts of a batch and of the weights. tensor: parts of
    each matrix.
    """

    data: int = -1
    fsdp: int = 1
    tensor: int = 1


def make_mesh(config: MeshConfig, devices=None) -> Mesh:
    """Builds the mesh over all devices; UserError if the sizes do not multiply out.

    The axes are Auto: `jax.make_mesh` would make them Explicit.
    """
    devices = jax.devices() if devices is None else list(devices)
    sizes = mesh_sizes(config, len(devices))
    types = (AxisType.Auto,) * len(AXES)
    return Mesh(_arrange(sizes, devices), AXES, axis_types=types)


def _arrange(sizes: Sequence[int], devices: Sequence) -> np.ndarray:
    """Devices as a grid whose axes follow the links of a TPU; data spans slices."""
    slices = len({getattr(device, "slice_index", 0) for device in devices})
    if devices[0].platform != "tpu" or slices > 1 and sizes[0] % slices:
        return np.array(devices).reshape(sizes)
    within = (sizes[0] // slices, *sizes[1:])
    if slices > 1:
        return mesh_utils.create_hybrid_device_mesh(
            within, (slices, 1, 1), devices, allow_split_physical_axes=True
        )
    return mesh_utils.create_device_mesh(
        within, devices, allow_split_physical_axes=True
    )


def make_abstract_mesh(config: MeshConfig, count: int) -> AbstractMesh:
    """An abstract mesh of so many devices; UserError as `make_mesh`."""
    types = (AxisType.Auto,) * len(AXES)
    return AbstractMesh(tuple(mesh_sizes(config, count)), AXES, axis_types=types)


def mesh_sizes(config: MeshConfig, count: int) -> list[int]:
    """Devices along each axis of `count`; UserError if they do not multiply out."""
    sizes = [config.data, config.fsdp, config.tensor]
    known = math.prod(size for size in sizes if size != -1)
    if sizes.count(-1) == 1 and known > 0 and count % known == 0:
        sizes[sizes.index(-1)] = count // known
    if -1 in sizes or math.prod(sizes) != count:
        raise UserError(
            f"mesh {config.data} x {config.fsdp} x {config.tensor} (data, fsdp, tensor)"
            f" does not cover {count} devices: make the product equal, or one -1"
        )
    return sizes


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Leading axis over data and fsdp, the rest whole."""
    return NamedSharding(mesh, PartitionSpec(("data", "fsdp")))


def check_batch(mesh: Mesh, batch_size: int) -> None:
    """UserError unless the batch divides over the data and fsdp axes."""
    ways = mesh.shape["data"] * mesh.shape["fsdp"]
    if batch_size % ways:
        raise UserError(
            f"train.batch_size is {batch_size}: it must be a multiple of data x fsdp "
            f"devices, {ways}"
        )


def place_batch(batch: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Puts a batch on the devices, split over its first axis.

    Every process has the whole batch, which depends on seed and step alone, and hands
    its own devices their part: how many processes there are changes no example.
    """
    sharding = batch_sharding(mesh)
    return {
        name: jax.make_array_from_callback(value.shape, sharding, value.__getitem__)
        for name, value in batch.items()
    }
