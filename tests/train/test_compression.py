"""Updates with compressed gradients: a transformer, whole runs, and what is sent."""

import dataclasses
from functools import cache

import jax
import numpy as np
import pytest

from cogjax.errors import UserError
from cogjax.models.image_lm_config import ImageLMConfig
from cogjax.parallel.mesh import MeshConfig, make_mesh, place_batch
from cogjax.parallel.powersgd import PowerSGD, count_bytes
from cogjax.plan.hlo import traffic
from cogjax.tasks.lm import LMTask
from cogjax.train.checkpoint import Checkpoints
from cogjax.train.compression import make_compression, state_shardings
from cogjax.train.loop import TrainConfig, fit, make_step
from cogjax.train.optim import OptimConfig, make_optimizer, make_schedule
from cogjax.train.session import Job
from cogjax.train.step import init_state
from tests.train.toy import Line, digest, make_batches, without

TASK = LMTask(
    ImageLMConfig(
        vocab_size=64,
        width=32,
        depth=2,
        heads=2,
        mlp_dim=64,
        max_positions=12,
        dropout=0.0,
    ),
    num_codes=48,
)
OPTIM = OptimConfig(lr=1e-2, warmup=1, clip=1.0, schedule="constant")
SCHEDULE = make_schedule(OPTIM, 10)
TX = make_optimizer(OPTIM, SCHEDULE)
TRAIN = TrainConfig(steps=1000, batch_size=16)
RNG = np.random.default_rng(0)
# Eight sentences that start alike: there is something to learn. Weights are uneven, so
# workers count differently.
IDS = np.repeat(RNG.integers(0, 64, (8, 13)), 2, axis=0)
WEIGHTS = RNG.uniform(size=(16, 13)) * RNG.integers(1, 4, (16, 1))
BATCH = {"ids": IDS.astype(np.int32), "weights": WEIGHTS.astype(np.float32)}
EXACT, WARM = PowerSGD(), PowerSGD(rank=4)


def compression(config, mesh):
    """Compression of all matrices: the rank is too high to make them smaller."""
    if config.rank < 1000:
        return make_compression(config, TASK, mesh)
    found = make_compression(dataclasses.replace(config, rank=1), TASK, mesh)
    return dataclasses.replace(found, config=config)


@cache
def place(config, sizes=(4, 1, 1)):
    """(mesh, shapes of the state, shardings)."""
    mesh = make_mesh(MeshConfig(*sizes), jax.devices()[: int(np.prod(sizes))])
    found = compression(config, mesh)
    state = jax.eval_shape(lambda k: init_state(TASK, TX, k, found), jax.random.key(0))
    return mesh, state, state_shardings(state, mesh, TASK.param_axes)


@cache
def compiled(config, sizes=(4, 1, 1), accumulate=1):
    """The step, as a program."""
    mesh, state, shardings = place(config, sizes)
    settings = dataclasses.replace(TRAIN, accumulate=accumulate)
    found = compression(config, mesh)
    step = make_step(TASK, TX, SCHEDULE, settings, (shardings, mesh), found)
    with jax.set_mesh(mesh):
        return step.lower(state, place_batch(BATCH, mesh)).compile()


@cache
def start(config):
    """The state before the first step, in numpy: the same for all meshes.

    Weights are drawn once, for all configs.
    """
    if config != EXACT:
        found, key = compression(config, place(config)[0]), jax.random.key(1)
        bases = jax.device_get(jax.jit(found.start)(key))
        return dataclasses.replace(start(EXACT), powersgd=bases)
    init = jax.jit(lambda key: init_state(TASK, TX, key))
    return jax.device_get(init(jax.random.key(0)))


@cache
def train(config, steps, sizes=(4, 1, 1), accumulate=1, poisoned=-1):
    """(state in numpy, losses); from step `poisoned` on worker 2 sees no numbers."""
    mesh, _, shardings = place(config, sizes)
    step = compiled(config, sizes, accumulate)
    state, losses = jax.device_put(start(config), shardings), []
    for i in range(steps):
        weights = BATCH["weights"].copy()
        weights[9] *= np.nan if 0 <= poisoned <= i else 1
        # One step at a time: collectives of two would wait for each other's threads.
        state, metrics = jax.block_until_ready(
            step(state, place_batch({**BATCH, "weights": weights}, mesh))
        )
        losses.append(float(metrics["loss"]))
    return jax.device_get(state), losses


def assert_close(one, other):
    """Adam divides by roots of second moments: small gradients are not precise."""
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-3, atol=5e-4)


def test_full_rank_trains_as_exact_sums():
    """In two parts a batch too: weights of parts and of workers multiply."""
    want, losses = train(EXACT, 4)
    got, found = train(PowerSGD(rank=1000), 4, accumulate=2)
    np.testing.assert_allclose(found, losses, rtol=1e-4)
    assert_close(got.params, want.params)


def test_low_rank_learns_nearly_as_fast():
    _, exact = train(EXACT, 40)
    _, warm = train(WARM, 40)
    assert exact[-1] < 0.5 * exact[0]
    assert abs(warm[-1] - exact[-1]) < 0.1 * exact[0]


def test_the_first_updates_are_exact():
    config = PowerSGD(rank=4, start=2)
    want, _ = train(EXACT, 2)
    early, _ = train(config, 2)
    assert_close(early.params, want.params)
    assert not any(error.any() for error in early.powersgd["error"].values())
    later, _ = train(config, 3)
    assert all(error.any() for error in later.powersgd["error"].values())


@pytest.mark.parametrize(
    "sizes", [(4, 2, 1), pytest.param((4, 1, 2), marks=pytest.mark.slow)]
)
def test_devices_within_a_worker_change_nothing(sizes):
    """4 workers of 2 devices each, which share parameters and errors, or heads."""
    (want, losses), (got, found) = train(WARM, 4), train(WARM, 4, sizes)
    np.testing.assert_allclose(found, losses, rtol=1e-4)
    assert_close(got.params, want.params)


def test_an_error_lies_where_its_parameter_does():
    name = "mlp_in/kernel"
    *_, shardings = place(WARM, (4, 2, 1))
    error = {k: v for k, v in shardings.powersgd["error"].items() if k.endswith(name)}
    assert [tuple(v.spec) for v in error.values()] == [("data", None, "fsdp", "tensor")]


def test_a_worker_without_numbers_changes_nothing():
    before, _ = train(WARM, 2)
    after, _ = train(WARM, 3, poisoned=2)
    names = ("step", "bad_steps")
    assert digest(vars(without(before, *names))) == digest(vars(without(after, *names)))
    assert int(after.bad_steps) == 1


def sent(config):
    """Bytes that a device sends for sums in an update, by the compiled program."""
    return traffic(compiled(config).as_text()).network


def test_the_sums_shrink_as_predicted():
    """A ring of 4 sends each number 2 x 3/4 times; metrics are a few numbers more.

    The compiler sums both gradients of the one table of ids.
    """
    mesh, state, _ = place(WARM)
    matrices = dict(make_compression(WARM, TASK, mesh).matrices)
    want = count_bytes(WARM, matrices, state.params)
    assert want.compressed < 0.45 * want.exact
    table = state.params["token_embedding"].size * 4
    exact, warm = sent(EXACT), sent(WARM)
    assert set(exact) == set(warm) == {"all-reduce"}
    assert 0 <= exact["all-reduce"] - 1.5 * (want.exact + table) < 300
    assert 0 <= warm["all-reduce"] - 1.5 * want.compressed < 300


def test_a_checkpoint_serves_other_workers(tmp_path):
    """As many get the errors bitwise; others share their sum."""
    state, _ = train(WARM, 2)
    _, abstract, shardings = place(WARM)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(jax.device_put(state, shardings), 0, "data")
    checkpoints.wait()
    same, _ = checkpoints.restore(abstract, shardings, "data")
    assert digest(vars(same)) == digest(vars(state))
    for workers in (2, 8):
        _, abstract, shardings = place(WARM, (workers, 1, 1))
        other, _ = checkpoints.restore(abstract, shardings, "data")
        for name, error in state.powersgd["error"].items():
            found = np.asarray(other.powersgd["error"][name])
            assert len(found) == workers
            np.testing.assert_allclose(found.sum(0), error.sum(0), atol=1e-6)
        assert digest(other.params) == digest(state.params)
    checkpoints.close()


class Matrix(Line):
    matrix_axes = staticmethod(lambda params: {"w": ((0,), (1,)), "bias": None})

    def loss(self, params, state, batch, key):
        loss, (_, metrics) = super().loss(params, state, batch, key)
        return loss, ({**state, "step": state["step"] + 1}, metrics)


LINE = OptimConfig(lr=0.1, warmup=1, powersgd=PowerSGD(rank=1, bits=16))


def fit_line(workdir, steps, task=None, optim=LINE, devices=4):
    config = TrainConfig(steps=steps, batch_size=8, save_every=2, eval_every=0)
    mesh = make_mesh(MeshConfig(), jax.devices()[:devices])
    return fit(Job(task or Matrix(), make_batches), config, optim, mesh, workdir)


def test_resume_is_bitwise(tmp_path):
    optim = dataclasses.replace(LINE, schedule="constant")
    whole = fit_line(tmp_path / "whole", 6, optim=optim)
    assert whole.powersgd["error"]["w"].any()
    fit_line(tmp_path / "cut", 3, optim=optim)
    assert digest(fit_line(tmp_path / "cut", 6, optim=optim)) == digest(whole)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"devices": 1}, "mesh.data.*there is one"),
        ({"task": Line()}, "does not fit this task"),
        ({"optim": OptimConfig(powersgd=PowerSGD(rank=2))}, "rank 2 makes no matrix"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        fit_line(tmp_path / "run", 2, **changes)
    assert not (tmp_path / "run").exists()


def test_a_rank_below_0_is_refused():
    with pytest.raises(UserError, match="rank and start must not be negative"):
        PowerSGD(rank=-1)
