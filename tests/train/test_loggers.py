"""Optional parts of a run: Weights & Biases, and a trace by JAX's profiler."""

import importlib.machinery
import json
import sys
from types import ModuleType

import jax
import numpy as np
import pytest

from cogjax.errors import UserError
from cogjax.parallel.mesh import MeshConfig, make_mesh
from cogjax.train.loop import TrainConfig, fit
from cogjax.train.optim import OptimConfig
from cogjax.train.session import Job
from tests.train.toy import Line, make_batches

OPTIM = OptimConfig(lr=0.1, warmup=1, schedule="constant")


def train(workdir, steps, batches=make_batches, **settings):
    config = TrainConfig(steps, 8, log_every=1, save_every=2, eval_every=0, **settings)
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    hooks = ((2, _show),)
    job = Job(Line(), batches, hooks=hooks, config={"optim": {"lr": 0.1}})
    return fit(job, config, OPTIM, mesh, workdir)


def _show(step, state, logger):
    logger.images(step, {"grid": np.zeros((4, 4, 3), np.uint8)}, ["a cat", "猫"])


class Run:
    def __init__(self, settings):
        self.settings, self.rows, self.ended, self.metric = settings, [], False, None

    def define_metric(self, name, step_metric):
        self.metric = name, step_metric

    def log(self, row):
        self.rows.append(row)

    def finish(self):
        self.ended = True


@pytest.fixture
def runs(monkeypatch):
    """The runs that a stand-in for wandb was asked for."""
    found = []

    def init(**settings):
        found.append(Run(settings))
        return found[-1]

    fake = ModuleType("wandb")
    fake.__spec__ = importlib.machinery.ModuleSpec("wandb", None)
    fake.init = init
    fake.Image = lambda pixels, caption: (pixels.shape, caption)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    return found


def test_wandb_gets_what_the_files_get(tmp_path, runs):
    train(tmp_path, 2, wandb="emoji")
    train(tmp_path, 4, wandb="emoji")
    first, second = runs
    assert first.settings["project"] == "emoji"
    assert first.settings["name"] == tmp_path.name
    assert first.settings["config"] == {"optim": {"lr": 0.1}}
    assert first.settings["id"] == second.settings["id"] and first.settings["resume"]
    assert first.metric == ("*", "step") and first.ended and second.ended
    rows = [
        json.loads(x) for x in (tmp_path / "metrics.jsonl").read_text().splitlines()
    ]
    losses = {row["step"]: row["loss"] for row in rows if "loss" in row}
    sent = {r["step"]: r["loss"] for run in runs for r in run.rows if "loss" in r}
    assert losses == sent and list(sent) == [1, 2, 3, 4]
    images = [row for run in runs for row in run.rows if "grid" in row]
    assert images[0] == {"step": 2, "grid": ((4, 4, 3), "a cat; 猫")}


def test_a_run_that_wandb_refuses_is_said_before_training(tmp_path, runs):
    def refuse(**settings):
        raise RuntimeError("no API key")

    sys.modules["wandb"].init = refuse
    with pytest.raises(UserError, match=r"no API key.*WANDB_MODE=offline"):
        train(tmp_path, 2, wandb="emoji")
    assert not (tmp_path / "metrics.jsonl").exists()


def test_wandb_that_fails_later_ends_no_training(tmp_path, runs, monkeypatch, capsys):
    def fail(self, *row):
        raise OSError("no network")

    monkeypatch.setattr(Run, "log", fail)
    monkeypatch.setattr(Run, "finish", fail)
    assert int(train(tmp_path, 2, wandb="emoji").step) == 2
    assert capsys.readouterr().out.count("no network") == 1
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) >= 2


def test_without_a_project_there_is_no_wandb(tmp_path, runs):
    train(tmp_path, 1)
    assert not runs and not (tmp_path / "wandb_id.json").exists()


def test_wandb_that_is_not_here_is_said_at_once(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"train.wandb.*pip install 'cogjax\[wandb\]'"):
        train(tmp_path / "run", 1, wandb="emoji")
    assert not (tmp_path / "run").exists()


@pytest.fixture
def traced(monkeypatch):
    """Calls of the profiler, and the batches that were asked for."""
    found = []
    stop = lambda: found.append("stop")  # noqa: E731
    monkeypatch.setattr(jax.profiler, "start_trace", found.append)
    monkeypatch.setattr(jax.profiler, "stop_trace", stop)

    def batches(start):
        for number, batch in enumerate(make_batches(start), start):
            found.append(number)
            yield batch

    return found, batches


@pytest.mark.parametrize(
    ("steps", "profile", "wanted"),
    [
        (7, 2, [0, 1, 2, 3, "start", 4, "stop", 5, 6]),
        (3, 2, [0, 1, "start", 2, "stop"]),
        (2, 5, [0, "start", 1, "stop"]),
        (2, 0, [0, 1]),
    ],
)
def test_some_steps_are_traced(tmp_path, traced, capsys, steps, profile, wanted):
    """A batch is taken before its step: the trace starts between the two."""
    found, batches = traced
    train(tmp_path, steps, batches, profile=profile)
    path = str(tmp_path / "profile")
    assert found == [path if each == "start" else each for each in wanted]
    said = capsys.readouterr().out
    assert (f"traced steps from {max(0, min(3, steps - profile))}: {path}" in said) == (
        profile > 0
    )


def test_an_error_ends_the_trace(tmp_path, traced):
    found, batches = traced

    def broken(start):
        for number, batch in enumerate(batches(start)):
            if number == 4:
                raise ZeroDivisionError
            yield batch

    with pytest.raises(ZeroDivisionError):
        train(tmp_path, 9, broken, profile=5)
    assert found[-1] == "stop" and found.count("stop") == 1


def test_a_trace_of_less_than_nothing():
    with pytest.raises(UserError, match="profile must not be negative"):
        TrainConfig(profile=-1)
