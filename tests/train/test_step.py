import jax
import numpy as np
import optax
import pytest

from cogjax.parallel.mesh import MeshConfig, batch_sharding, make_mesh, place_batch
from cogjax.parallel.rules import tree_shardings
from cogjax.train.loop import TrainConfig
from cogjax.train.optim import OptimConfig, make_optimizer, make_schedule
from cogjax.train.step import at_precision, init_state, make_train_step
from tests.train.toy import Line, Sides, SidesApart, digest, make_batches, without

OPTIM = OptimConfig(lr=0.1, warmup=1)


def run(steps, mesh=None, accumulate=1, poison=(), task=None):
    """`steps` updates of a toy task; returns the final state and all metrics."""
    task, schedule = task or Line(), make_schedule(OPTIM, 10)
    tx = make_optimizer(OPTIM, schedule)
    step = make_train_step(task, tx, schedule, accumulate=accumulate, ema_decay=0.9)
    mesh = mesh or make_mesh(MeshConfig(), jax.devices()[:1])
    key = jax.random.key(0)
    abstract = jax.eval_shape(lambda k: init_state(task, tx, k), key)
    shardings = tree_shardings(abstract, mesh)
    state = jax.jit(lambda k: init_state(task, tx, k), out_shardings=shardings)(key)
    step = jax.jit(
        step,
        in_shardings=(shardings, batch_sharding(mesh)),
        out_shardings=(shardings, None),
    )
    rows, batches = [], make_batches(0, poison)
    for _ in range(steps):
        state, metrics = step(state, place_batch(next(batches), mesh))
        rows.append(jax.device_get(metrics))
    return state, rows


def test_weights_approach_the_answer_and_state_counts():
    answer = np.zeros((8, 2))
    answer[0, 0] = answer[1, 1] = 3
    state, _ = run(10)
    before, after = (
        np.linalg.norm(np.asarray(s.params["w"]) - answer) for s in (run(0)[0], state)
    )
    assert after < 0.95 * before
    assert int(state.state["seen"]) == 80
    assert int(state.step) == 10


@pytest.mark.parametrize("accumulate", [1, 4])
def test_a_task_counts_updates(accumulate):
    state, _ = run(3, accumulate=accumulate)
    assert int(state.state["step"]) == 3
    assert int(state.state["seen"]) == 24


@pytest.mark.parametrize("accumulate", [1, 4])
def test_terms_of_a_loss_add_up(accumulate):
    """Gradients one after the other are those of the sum; an update counts once."""
    one, one_rows = run(3, accumulate=accumulate, task=Sides())
    apart, rows = run(3, accumulate=accumulate, task=SidesApart())
    assert int(apart.state["step"]) == 3
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(apart), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)
    for a, b in zip(one_rows, rows, strict=True):
        assert a.keys() == b.keys() >= {"left", "right"}
        for name in a:
            np.testing.assert_allclose(a[name], b[name], rtol=1e-5, err_msg=name)


def test_ema_follows_its_closed_form():
    """decay_t = min(0.9, (1 + t) / (10 + t)) from the initial parameters on."""
    expected = np.asarray(run(0)[0].params["w"])
    for step in range(3):
        decay = min(0.9, (1 + step) / (10 + step))
        params = np.asarray(run(step + 1)[0].params["w"])
        expected = decay * expected + (1 - decay) * params
    np.testing.assert_allclose(run(3)[0].ema["w"], expected, rtol=1e-5)


@pytest.mark.parametrize("sizes", [(8, 1), (2, 4), (1, 8)])
def test_eight_devices_equal_one(sizes):
    data, fsdp = sizes
    one, one_rows = run(3)
    many, many_rows = run(3, make_mesh(MeshConfig(data, fsdp)))
    np.testing.assert_allclose(one_rows[-1]["loss"], many_rows[-1]["loss"], rtol=1e-5)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(many), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_accumulation_sees_every_example_once():
    state, rows = run(1, accumulate=4)
    whole, whole_rows = run(1)
    assert int(state.state["seen"]) == int(whole.state["seen"]) == 8
    # The noise keys differ between the parts, nothing else.
    np.testing.assert_allclose(rows[0]["loss"], whole_rows[0]["loss"], rtol=0.02)


class Weighted(Line):
    """Each example has a weight, and the loss is a mean over those."""

    def loss(self, params, state, batch, key):
        del key
        error = batch["x"] @ params["w"] + params["bias"] - batch["y"]
        weights = batch["weights"] / jax.numpy.maximum(batch["weights"].sum(), 1e-9)
        return jax.numpy.sum(weights @ jax.numpy.square(error)), (state, {})

    def weights(self, batch):
        return {"loss": batch["weights"].sum()}


@pytest.mark.parametrize("devices", [1, 2])
@pytest.mark.parametrize("accumulate", [1, 2, 4])
def test_parts_and_devices_of_unequal_weights_equal_float64(accumulate, devices):
    """Against the loss and gradient of the whole batch, written out in float64."""
    batch = next(make_batches(0))
    # The second of four parts has examples 1 and 5, which weigh nothing.
    batch["weights"] = np.float32([0.1, 0, 30, 2, 5, 0, 0, 1e-3])
    tx, task = optax.sgd(1.0), Weighted()
    step = make_train_step(
        task, tx, lambda _: 1.0, accumulate=accumulate, ema_decay=0.9
    )
    mesh = make_mesh(MeshConfig(), jax.devices()[:devices])
    start = jax.jit(lambda k: init_state(task, tx, k))(jax.random.key(0))
    new, metrics = jax.jit(step)(start, place_batch(batch, mesh))
    x, y, weights = (np.float64(batch[name]) for name in ("x", "y", "weights"))
    weights /= weights.sum()
    error = x @ np.float64(start.params["w"]) - y
    loss = weights @ np.square(error).sum(1)
    np.testing.assert_allclose(metrics["loss"], loss, rtol=1e-6)
    gradients = {
        "w": 2 * x.T @ (weights[:, None] * error),
        "bias": 2 * weights @ error,
    }
    for name, wanted in gradients.items():
        moved = np.float64(start.params[name]) - np.float64(new.params[name])
        assert np.linalg.norm(moved - wanted) < 1e-5 * np.linalg.norm(wanted)


def test_a_poisoned_step_changes_nothing_but_the_counters():
    before, _ = run(2)
    after, rows = run(3, poison=(2,))
    names = ("step", "bad_steps")
    assert digest(vars(without(before, *names))) == digest(vars(without(after, *names)))
    assert int(after.step) == 3 and int(after.bad_steps) == 1
    assert not np.isfinite(rows[-1]["loss"])


def test_a_good_step_resets_the_counter():
    assert int(run(4, poison=(2,))[0].bad_steps) == 0


@pytest.mark.parametrize("products", ["default", "bfloat16"])
def test_an_update_is_traced_with_its_precision_of_products(products):
    seen = []

    class Watched(Line):
        def loss(self, *args):
            seen.append(jax.config.jax_default_matmul_precision)
            return super().loss(*args)

    task, schedule = Watched(), make_schedule(OPTIM, 10)
    tx = make_optimizer(OPTIM, schedule)
    precision = TrainConfig(products=products).precision
    step = make_train_step(task, tx, schedule, accumulate=1, ema_decay=0.9)
    step = at_precision(step, precision)
    state = jax.eval_shape(lambda key: init_state(task, tx, key), jax.random.key(0))
    jax.eval_shape(step, state, next(make_batches(0)))
    assert set(seen) == {precision} == {None if products == "default" else products}
