"""Parts of a batch, and devices, give what the whole batch gives on one.

However unequal texts are. Where parts have draws or statistics of their own, an update
is the mean of theirs, in turn.
"""

import dataclasses
import functools
import types

import jax
import numpy as np
import optax
import pytest

from cogjax.parallel.mesh import MeshConfig, make_mesh, place_batch
from cogjax.parallel.rules import tree_shardings
from cogjax.train import loop
from cogjax.train.step import init_state, make_train_step
from tests.tasks.every_task import OWN, SUMS, codes, reading, two_way

TX = optax.sgd(1.0)
# In a batch of one part they are another thing.
OF_A_PART = ("perplexity", "usage")


@functools.cache
def start(make):
    """(task, batch, the state before the first step), away from zeros of the start."""
    task, batch = make()
    state = jax.device_get(
        jax.jit(lambda key: init_state(task, TX, key))(jax.random.key(0))
    )
    rng = np.random.default_rng(1)
    params = jax.tree.map(
        lambda x: x + rng.normal(0, 0.1, x.shape).astype(x.dtype), state.params
    )
    return task, batch, dataclasses.replace(state, params=params, ema=params)


def module_fixture(makes):
    """A state of each task; the last of `OWN` compiles for a minute."""
    return pytest.fixture(scope="module", params=makes, ids=lambda make: make.__name__)


@module_fixture(SUMS)
def sums(request):
    """As `start`, and what one part on one device gives."""
    started = start(request.param)
    return started, update(*started)


@module_fixture((*OWN[:-1], pytest.param(OWN[-1], marks=pytest.mark.slow)))
def own(request):
    return start(request.param)


@module_fixture((reading, two_way))
def uneven(request):
    return start(request.param)


def norm(tree):
    return np.sqrt(sum(np.square(leaf).sum() for leaf in jax.tree.leaves(tree)))


def update(task, batch, state, parts=1, mesh=None):
    """(what a step of so many parts adds to the weights, its next state, metrics)."""
    step = make_train_step(task, TX, lambda step: 1.0, accumulate=parts, ema_decay=0.9)
    mesh = mesh or make_mesh(MeshConfig(), jax.devices()[:1])
    shardings = tree_shardings(jax.eval_shape(lambda: state), mesh, task.param_axes)
    with jax.set_mesh(mesh):
        placed = jax.device_put(state, shardings), place_batch(batch, mesh)
        new, metrics = jax.device_get(jax.jit(step)(*placed))
    move = jax.tree.map(np.subtract, new.params, state.params)
    return move, new.state, metrics


def check_same(found, wanted, metrics, wanted_metrics):
    error = norm(jax.tree.map(np.subtract, found, wanted))
    assert 0 < norm(wanted) and error < 1e-5 * norm(wanted)
    assert metrics.keys() == wanted_metrics.keys()
    for name in metrics.keys() - set(OF_A_PART):
        np.testing.assert_allclose(
            metrics[name], wanted_metrics[name], rtol=1e-5, atol=1e-7
        )


def check_devices(started, whole, held, wanted):
    mesh = make_mesh(MeshConfig(4, 2, 1))
    moved, state, metrics = update(*started, mesh=mesh)
    check_same(moved, whole, metrics, wanted)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4), state, held)


def test_parts_on_devices_equal_the_whole_batch_on_one(sums):
    """Both in one program: long texts are in one part, short ones in the other."""
    started, (whole, _, wanted) = sums
    mesh = make_mesh(MeshConfig(2, 2, 1), jax.devices()[:4])
    moved, _, metrics = update(*started, parts=2, mesh=mesh)
    check_same(moved, whole, metrics, wanted)


@pytest.mark.slow
def test_accumulation_equals_the_whole_batch(sums):
    started, (whole, _, wanted) = sums
    moved, _, metrics = update(*started, parts=4)
    check_same(moved, whole, metrics, wanted)


# The one that has statistics.
_DEVICES = [
    make if make is codes else pytest.param(make, marks=pytest.mark.slow)
    for make in SUMS
]


@pytest.mark.parametrize(
    "sums", _DEVICES, indirect=True, ids=[make.__name__ for make in SUMS]
)
def test_devices_equal_one(sums):
    started, whole = sums
    check_devices(started, *whole)


@pytest.mark.slow
def test_devices_share_draws_and_statistics(own):
    check_devices(own, *update(*own))


def test_parts_with_draws_of_their_own_are_averaged(own):
    """Statistics go from part to part, as if each were a batch; counters do not."""
    task, batch, state = own
    moved, found, metrics = update(*own, parts=2)
    gradients = jax.jit(jax.value_and_grad(task.loss, has_aux=True))
    key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)
    held, grads, losses = state.state, [], []
    for i in range(2):
        part = jax.tree.map(lambda x, i=i: x[i::2], batch)
        held = {**held, **{name: state.state[name] for name in task.counters}}
        (loss, (held, _)), grad = jax.device_get(
            gradients(state.params, held, part, jax.random.fold_in(key, i))
        )
        grads.append(grad)
        losses.append(loss)
    wanted = jax.tree.map(lambda a, b: -(a + b) / 2, *grads)
    assert norm(jax.tree.map(np.subtract, moved, wanted)) < 1e-5 * norm(wanted)
    np.testing.assert_allclose(metrics["loss"], np.mean(losses), rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4), found, held)


def test_evaluation_of_batches_equals_that_of_all(uneven):
    task, batch, begun = uneven
    params, state = begun.params, begun.state
    batches = [jax.tree.map(lambda x, i=i: np.asarray(x[i::2]), batch) for i in (0, 1)]
    rows = []
    logger = types.SimpleNamespace(scalars=lambda step, row: rows.append(row))
    train_state = types.SimpleNamespace(ema=params, state=state)
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    loop._make_eval(task, batches, mesh)(1, train_state, logger)
    wanted = jax.jit(task.eval_metrics)(params, state, batch, None)
    assert rows[0].keys() == {f"eval/{name}" for name in wanted}
    for name in wanted:
        np.testing.assert_allclose(rows[0][f"eval/{name}"], wanted[name], rtol=1e-5)
