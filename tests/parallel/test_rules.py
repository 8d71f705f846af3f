"""Shardings from paths; and that eight devices train as one does."""

import re

import jax
import pytest
from jax.sharding import PartitionSpec

from cogjax.errors import UserError
from cogjax.families.cogview import presets as cogview
from cogjax.models.image_lm import PARAM_AXES
from cogjax.parallel.mesh import MeshConfig, make_mesh
from cogjax.parallel.rules import SMALL, path_name, tree_shardings
from cogjax.tasks.lm import LMTask
from cogjax.train.optim import OptimConfig, make_optimizer, make_schedule
from cogjax.train.step import init_state


def specs(shapes, mesh, rules=()):
    tree = jax.tree.map(
        lambda shape: jax.ShapeDtypeStruct(shape, "float32"),
        shapes,
        is_leaf=lambda x: isinstance(x, tuple),
    )
    return jax.tree.map(lambda found: found.spec, tree_shardings(tree, mesh, rules))


def test_without_a_rule_the_largest_divisible_dimension():
    mesh = make_mesh(MeshConfig(data=2, fsdp=4))
    shapes = {
        "a": (3, 8, SMALL),
        "b": (SMALL + 1,),
        "c": (),
        "d": (SMALL, 6),
        "e": (8,),
    }
    assert specs(shapes, mesh) == {
        "a": PartitionSpec(None, None, "fsdp"),
        "b": PartitionSpec(None),
        "c": PartitionSpec(),
        "d": PartitionSpec("fsdp", None),
        "e": PartitionSpec(None),
    }


def test_rules_name_the_last_axes_of_the_end_of_a_path():
    mesh = make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
    rules = (("mlp/kernel", ("embed", "mlp")), ("table", ("vocab", "embed")))
    shapes = {
        "params": {"mlp": {"kernel": (4, 8)}, "table": (6, 2)},
        "mu": {"layers": {"mlp": {"kernel": (3, 4, 8)}}, "wide_table": (6, 2)},
    }
    assert specs(shapes, mesh, rules) == {
        "params": {
            "mlp": {"kernel": PartitionSpec("fsdp", "tensor")},
            "table": PartitionSpec("tensor", "fsdp"),
        },
        "mu": {
            "layers": {"mlp": {"kernel": PartitionSpec(None, "fsdp", "tensor")}},
            "wide_table": PartitionSpec(None, None),
        },
    }


def test_a_mesh_that_does_not_divide():
    mesh = make_mesh(MeshConfig(data=1, fsdp=2, tensor=4))
    with pytest.raises(UserError, match="mesh.tensor is 4: it does not divide 6 of t"):
        specs({"table": (6, 2)}, mesh, (("table", ("vocab", "embed")),))


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_every_large_leaf_of_the_paper_has_one_rule(optimizer):
    """And moments and EMA live where their parameters do."""
    config = cogview.TRANSFORMERS["paper"]
    layout = cogview.make_layout(cogview.TOKENIZERS["paper"], 50000, config)
    task = LMTask(cogview.make_transformer(config, layout), layout.vocab.num_codes)
    optim = OptimConfig(name=optimizer)
    tx = make_optimizer(optim, make_schedule(optim, 9), task.matrix_axes)
    state = jax.eval_shape(lambda key: init_state(task, tx, key), jax.random.key(0))
    mesh = make_mesh(MeshConfig(data=1, fsdp=4, tensor=2))
    shardings = tree_shardings(state, mesh, PARAM_AXES)
    leaves = jax.tree_util.tree_leaves_with_path(state)
    found = {}
    for (path, leaf), sharding in zip(leaves, jax.tree.leaves(shardings), strict=True):
        name = path_name(path)
        if leaf.size * 4 > 2**20:
            assert not sharding.is_fully_replicated, name
            rows = [row for row, _ in PARAM_AXES if re.search(f"{row}$", name)]
            assert len(rows) == 1, name
            if leaf.ndim > 1:
                found.setdefault(rows[0], set()).add(sharding.spec)
    assert all(len(places) == 1 for places in found.values()), found
