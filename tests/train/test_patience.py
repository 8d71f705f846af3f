"""A run that ends where its held-out loss is lowest; what is frozen is not saved."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cogjax.errors import UserError
from cogjax.parallel.mesh import MeshConfig, make_mesh
from cogjax.train.checkpoint import restore_params
from cogjax.train.loop import TrainConfig, fit
from cogjax.train.optim import OptimConfig
from cogjax.train.patience import HeldOut
from cogjax.train.session import Job
from cogjax.train.task import Task

RHYTHM = {"save_every": 1, "eval_every": 1, "log_every": 1, "sample_every": 0}
RHYTHM |= {"keep": 3, "patience": 2}
CONFIG = TrainConfig(steps=30, batch_size=8, ema_decay=0.0, **RHYTHM)
# AdamW moves by the rate, whatever the gradient.
OPTIM = OptimConfig(lr=1.0, schedule="constant", warmup=1, weight_decay=0.0, clip=0.0)


class Climb(Task):
    """w rises by 1 an update; held out it is best where it is `target`."""

    frozen = ("target",)

    def init(self, key):
        del key
        return {"w": jnp.zeros(())}, {"target": jnp.zeros(())}

    def loss(self, params, state, batch, key):
        del batch, key
        return -params["w"], (state, {})

    def eval_metrics(self, params, state, batch, key):
        del batch, key
        return {"loss": jnp.square(params["w"] - state["target"])}


def run(workdir, config=CONFIG, **fields):
    def batches(step):
        del step
        while True:
            yield {"x": np.zeros((8, 1), np.float32)}

    given = {"eval_batches": [next(batches(0))]} | fields
    start = {"target": np.float32(4.0)}
    job = Job(Climb(), batches, start_state=start, **given)
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    return fit(job, config, OPTIM, mesh, workdir)


def test_the_run_ends_at_its_lowest_held_out_loss(tmp_path):
    """The first update is at a rate of 0; two evaluations after the fifth are worse."""
    workdir, state = tmp_path, jax.device_get(run(tmp_path))
    np.testing.assert_allclose(state.params["w"], 4.0, atol=1e-4)
    assert (state.step, state.state["target"]) == (5, 4.0)
    params, kept, *_ = restore_params(workdir)
    np.testing.assert_allclose(params["w"], 4.0, atol=1e-4)
    assert not kept
    moved = [path.name for path in (workdir / "checkpoints" / "bad").iterdir()]
    assert sorted(moved) == ["6", "7"]


def test_earlier_evaluations_count_after_a_restart(tmp_path):
    path = tmp_path / "metrics.jsonl"
    rows = [{}, *({"step": i, "eval/loss": (i - 2) ** 2} for i in (1, 2, 3))]
    path.write_text("".join(json.dumps({"time": 0, **row}) + "\n" for row in rows))
    held_out = HeldOut(2, path)
    assert held_out.best == 2 and not held_out.over
    held_out.seen(4, float("nan"))
    assert held_out.over
    held_out.seen(5, -1.0)
    assert held_out.best == 5 and not held_out.over
    assert not HeldOut(0, path).over


@pytest.mark.parametrize(
    "changes",
    [
        {"patience": -1},
        {"save_every": 2},
        {"eval_every": 0, "save_every": 0},
        {"keep": 2},
    ],
)
def test_the_checkpoint_of_the_lowest_loss_must_stay(changes):
    with pytest.raises(UserError, match="'train.patience' needs save_every as often"):
        TrainConfig(**RHYTHM | changes)


def test_patience_needs_examples_that_are_held_out(tmp_path):
    with pytest.raises(UserError, match="needs examples that are held out"):
        run(tmp_path, eval_batches=None)
