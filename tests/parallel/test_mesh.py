import pytest
from jax.sharding import AxisType

from cogjax.errors import UserError
from cogjax.parallel.mesh import MeshConfig, make_mesh


def test_minus_one_takes_what_is_left_and_axes_are_auto():
    mesh = make_mesh(MeshConfig(data=-1, fsdp=2, tensor=2))
    assert dict(mesh.shape) == {"data": 2, "fsdp": 2, "tensor": 2}
    assert set(mesh.axis_types) == {AxisType.Auto}


@pytest.mark.parametrize("sizes", [(3, 1, 1), (-1, 3, 1), (-1, -1, 1), (0, 1, 1)])
def test_sizes_that_do_not_multiply_out(sizes):
    with pytest.raises(UserError, match="does not cover 8 devices"):
        make_mesh(MeshConfig(*sizes))
