"""An adapter beside a frozen network: its gradients, and what stays as it was.

Parts of a batch and devices are in test_parts.py.
"""

import dataclasses

import jax
import numpy as np
import pytest

from cogjax.nn.lora import LoRAConfig
from cogjax.ops.gradient_scale import start_scales
from cogjax.parallel.mesh import MeshConfig, make_mesh, place_batch
from cogjax.parallel.rules import tree_shardings
from cogjax.tasks.lora import LoRATask
from tests.tasks.every_task import low_rank, reading
from tests.tasks.test_parts import start, update

LAYERS = ("blocks", "layers")


def inside(tree, *names):
    for name in names:
        tree = tree[name]
    return tree


def test_an_update_moves_the_adapter_by_its_gradient_and_nothing_else():
    """dA = s G B^T and dB = s A^T G, of the merged kernel's gradient G; in float64."""
    task, batch, state = start(low_rank)
    moved, after, _ = update(task, batch, state)
    base = state.state["base"]
    jax.tree.map(np.testing.assert_array_equal, after["base"], base)
    merged = task.merged(state.params, base)
    grads = jax.jit(jax.grad(lambda p: task.inner.loss(p, {}, batch, None)[0]))(merged)
    assert moved["blocks"]["layers"].keys() == {"qkv", "attn_out", "mlp_in", "mlp_out"}
    for name, move in inside(moved, *LAYERS).items():
        pair = inside(state.params, *LAYERS, name, "kernel")
        a, b = np.float64(pair["a"][0]), np.float64(pair["b"][0])
        whole = np.float64(inside(grads, *LAYERS, name, "kernel")[0])
        whole = whole.reshape(len(a), -1)
        of_a, of_b = -2 * whole @ b.T, -2 * a.T @ whole
        found = move["kernel"]["a"][0], move["kernel"]["b"][0]
        for one, wanted in zip(found, (of_a, of_b), strict=True):
            np.testing.assert_allclose(one, wanted, atol=1e-5 * np.abs(wanted).max())


def test_an_evaluation_sees_the_merged_network():
    task, batch, state = start(low_rank)
    found, plain = (
        jax.jit(judge)(params, held, batch, None)["loss"]
        for judge, params, held in (
            (task.eval_metrics, state.params, state.state),
            (task.inner.eval_metrics, state.state["base"], {}),
        )
    )
    merged = task.merged(state.params, state.state["base"])
    wanted = jax.jit(task.inner.eval_metrics)(merged, {}, batch, None)["loss"]
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
    assert abs(found - plain) > 1e-4


def test_on_eight_devices_it_is_the_merged_network():
    """Base and adapter in parts, of batches and of matrices."""
    task, batch, state = start(low_rank)
    mesh = make_mesh(MeshConfig(2, 2, 2))
    shardings = tree_shardings(jax.eval_shape(lambda: state), mesh, task.param_axes)
    with jax.set_mesh(mesh):
        placed = jax.device_put(state, shardings)
        parts = inside(placed.state["base"], *LAYERS, "mlp_in", "kernel").sharding
        assert not parts.is_fully_replicated
        given = placed.params, placed.state, place_batch(batch, mesh), None
        found = jax.jit(task.eval_metrics)(*given)["loss"]
    merged = jax.device_get(task.merged(state.params, state.state["base"]))
    wanted = jax.jit(task.inner.eval_metrics)(merged, {}, batch, None)["loss"]
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


@pytest.mark.parametrize("bad", [0.0, np.inf])
def test_scales_of_branches_fall_where_the_adapter_has_no_gradient(bad):
    """DALL-E's scales, of an adapter of the attention alone."""
    inner, _ = reading()
    config = dataclasses.replace(inner.config, gradient_scale="resblock")
    task = LoRATask(type(inner)(config, num_codes=24), LoRAConfig(1, match=("qkv",)))
    params, state = jax.eval_shape(task.init, jax.random.key(0))
    zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), (params, state))
    grads, state = zeros[0], zeros[1] | start_scales(1)
    grads["blocks"]["layers"]["qkv"]["kernel"]["a"][0, 0] = bad
    after, _ = jax.jit(task.after_gradients)(state, grads)
    fallen = np.asarray(after["scale"] < state["scale"])
    assert fallen.tolist() == [[bool(bad), False]]
    assert after.keys() == state.keys()
