import jax
import pytest
from jax.sharding import AxisType, PartitionSpec

from cogjax.errors import UserError
from cogjax.parallel.mesh import MeshConfig, make_mesh
from cogjax.parallel.rules import tree_shardings


def test_minus_one_takes_what_is_left_and_axes_are_auto():
    mesh = make_mesh(MeshConfig(data=-1, fsdp=2, tensor=2))
    assert dict(mesh.shape) == {"data": 2, "fsdp": 2, "tensor": 2}
    assert set(mesh.axis_types) == {AxisType.Auto}


@pytest.mark.parametrize("sizes", [(3, 1, 1), (-1, 3, 1), (-1, -1, 1), (0, 1, 1)])
def test_sizes_that_do_not_multiply_out(sizes):
    with pytest.raises(UserError, match="does not cover 8 devices"):
        make_mesh(MeshConfig(*sizes))


def test_largest_divisible_dimension_is_sharded():
    mesh = make_mesh(MeshConfig(data=2, fsdp=4))
    shapes = {"a": (3, 8, 16), "b": (5,), "c": (), "d": (4, 6)}
    tree = {k: jax.ShapeDtypeStruct(s, "float32") for k, s in shapes.items()}
    specs = jax.tree.map(lambda sharding: sharding.spec, tree_shardings(tree, mesh))
    assert specs == {
        "a": PartitionSpec(None, None, "fsdp"),
        "b": PartitionSpec(None),
        "c": PartitionSpec(),
        "d": PartitionSpec("fsdp", None),
    }
