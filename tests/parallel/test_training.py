"""A sharded transformer trains as on one device, and with the collectives meant."""

import os
import tempfile
from functools import cache

import jax
import jaxlib
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache
from jax.sharding import PartitionSpec

from cogjax.models.image_lm_config import ImageLMConfig
from cogjax.ops.masks import LayerKind
from cogjax.ops.sequence import Sequence
from cogjax.parallel.mesh import MeshConfig, batch_sharding, make_mesh, place_batch
from cogjax.parallel.rules import tree_shardings
from cogjax.plan.hlo import traffic
from cogjax.tasks.lm import LMTask
from cogjax.train.checkpoint import Checkpoints
from cogjax.train.optim import OptimConfig, make_optimizer, make_schedule
from cogjax.train.step import init_state, make_train_step

# All kinds of layers, and a length that no number of devices divides.
KINDS = ("full", "row", "column", "conv")
CONFIG = ImageLMConfig(
    vocab_size=128,
    width=32,
    depth=4,
    heads=4,
    mlp_dim=64,
    max_positions=21,
    dropout=0.0,
    remat="nothing_saveable",
    sequence=Sequence.text_to_image(6, (4, 4)),
    kinds=tuple(LayerKind(name, 3) for name in KINDS),
)
OPTIM = OptimConfig(lr=3e-3, warmup=1)
# Those that split parameters, of which XLA might have something to say.
SPLIT = ((2, 2, 2), (1, 4, 2))
MESHES = ((1, 1, 1), (8, 1, 1), *SPLIT)
RNG = np.random.default_rng(0)
IDS = np.concatenate([RNG.integers(64, 128, (8, 6)), RNG.integers(0, 64, (8, 16))], 1)
BATCH = {"ids": IDS.astype(np.int32), "weights": np.ones((8, 22), np.float32)}


@cache
def parts(sizes):
    """(mesh, abstract state, shardings, compiled step, the compiler's messages)."""
    count = int(np.prod(sizes))
    mesh = make_mesh(MeshConfig(*sizes), jax.devices()[:count])
    task, schedule = LMTask(CONFIG, 64), make_schedule(OPTIM, 10)
    tx = make_optimizer(OPTIM, schedule)
    state = jax.eval_shape(lambda key: init_state(task, tx, key), jax.random.key(0))
    shardings = tree_shardings(state, mesh, task.param_axes)
    step = jax.jit(
        make_train_step(task, tx, schedule, accumulate=1, ema_decay=0.9),
        in_shardings=(shardings, batch_sharding(mesh)),
        out_shardings=(shardings, None),
    )
    with jax.set_mesh(mesh):
        lowered = step.lower(state, place_batch(BATCH, mesh))
    said = sizes in SPLIT
    compiled = compile_and_listen(lowered) if said else (lowered.compile(), "")
    return mesh, state, shardings, *compiled


def compile_and_listen(lowered):
    """(compiled program, what XLA wrote to the standard error of the process).

    Compiled here and now: XLA writes nothing of a program that it loads.
    """
    with tempfile.TemporaryFile() as heard:
        stderr = os.dup(2)
        os.dup2(heard.fileno(), 2)
        jax.config.update("jax_enable_compilation_cache", False)
        compilation_cache.reset_cache()
        try:
            compiled = lowered.compile()
        finally:
            jax.config.update("jax_enable_compilation_cache", True)
            compilation_cache.reset_cache()
            os.dup2(stderr, 2)
            os.close(stderr)
        heard.seek(0)
        return compiled, heard.read().decode()


@cache
def start():
    """The state before the first step, as numpy: the same for all meshes."""
    task, schedule = LMTask(CONFIG, 64), make_schedule(OPTIM, 10)
    tx = make_optimizer(OPTIM, schedule)
    return jax.device_get(jax.jit(lambda k: init_state(task, tx, k))(jax.random.key(0)))


@cache
def train(sizes, steps=3):
    mesh, _, shardings, compiled, _ = parts(sizes)
    state, losses = jax.device_put(start(), shardings), []
    for _ in range(steps):
        state, metrics = compiled(state, place_batch(BATCH, mesh))
        losses.append(float(metrics["loss"]))
    return state, losses


@pytest.mark.parametrize("sizes", MESHES[1:])
def test_losses_and_weights_equal_one_device(sizes):
    (one, want), (many, got) = train(MESHES[0]), train(sizes)
    np.testing.assert_allclose(got, want, rtol=1e-5)
    assert want[-1] < want[0]
    # Adam divides by the root of second moments: where those are tiny, so is precision.
    for a, b in zip(jax.tree.leaves(one.ema), jax.tree.leaves(many.ema), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-4)


def test_a_checkpoint_moves_among_meshes(tmp_path):
    state, _ = train((2, 2, 2))
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(state, 24, "data")
    checkpoints.wait()
    for sizes in MESHES:
        _, abstract, shardings, *_ = parts(sizes)
        restored, _ = checkpoints.restore(abstract, shardings, "data")
        for a, b in zip(jax.tree.leaves(restored), jax.tree.leaves(state), strict=True):
            np.testing.assert_array_equal(jax.device_get(a), jax.device_get(b))
        placed = jax.tree.map(lambda x: x.sharding.spec, restored.params)
        assert placed == jax.tree.map(lambda x: x.spec, shardings.params)
    checkpoints.close()


def calls(sizes):
    """Collectives that a step makes, by kind, loops by their trips."""
    return traffic(parts(sizes)[3].as_text()).calls


def test_data_parallelism_only_sums_gradients():
    assert set(calls((8, 1, 1))) == {"all-reduce"}


# XLA's CPU backend spells a reduce-scatter as a sum and a slice. Counted with jaxlib
# 0.10; what it partitions into does not depend on how much it optimises. A layer that
# is computed again has its parameters gathered again.
COUNTS = {
    (8, 1, 1): {"all-reduce": 2},
    (2, 2, 2): {"all-gather": 77, "all-reduce": 38},
    (1, 4, 2): {"all-gather": 72, "all-reduce": 36},
}


@pytest.mark.skipif(
    not jaxlib.__version__.startswith("0.10."), reason="counts of jaxlib 0.10"
)
@pytest.mark.parametrize("sizes", COUNTS)
def test_a_step_makes_these_collectives_and_no_more(sizes):
    assert calls(sizes) == COUNTS[sizes]


@pytest.mark.parametrize("sizes", SPLIT)
def test_nothing_moves_from_all_to_all(sizes):
    found = calls(sizes)
    assert found["all-gather"] > 0
    assert "all-to-all" not in found
    assert "full rematerialization" not in parts(sizes)[4]


def test_xla_says_so_where_it_computes_all_again():
    """The words that the test above looks for."""
    mesh = make_mesh(MeshConfig(2, 2, 2))

    def turn(x):
        x = jax.lax.with_sharding_constraint(x, PartitionSpec(mesh.axis_names))
        last = PartitionSpec(None, ("tensor", "fsdp"), "data")
        return jax.lax.with_sharding_constraint(x, last)

    with jax.set_mesh(mesh):
        lowered = jax.jit(turn).lower(np.ones((8, 8, 8), np.float32))
        assert "full rematerialization" in compile_and_listen(lowered)[1]
