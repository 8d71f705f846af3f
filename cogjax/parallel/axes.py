"""What runs on each device by itself, over the mesh in scope."""

from collections.abc import Callable

import jax
from jax import Array
from jax.sharding import PartitionSpec


def over_heads(attend: Callable[..., Array]) -> Callable[..., Array]:
    """`attend` of arrays [b, t, n, h], each device with its own b and n.

    The compiler cannot split a kernel by itself: it would gather all of its arguments.
    Without a mesh it is `attend` itself. The data and fsdp axes must divide b, and the
    tensor axis n.
    """

    def run(*arrays: Array) -> Array:
        if jax.sharding.get_abstract_mesh().empty:
            return attend(*arrays)
        spec = PartitionSpec(("data", "fsdp"), None, "tensor", None)
        sharded = jax.shard_map(attend, in_specs=spec, out_specs=spec, check_vma=False)
        return sharded(*arrays)

    return run
